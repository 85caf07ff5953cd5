/** The list of jobs as the server has it: asked for again and again, since no stream tells of all jobs. */
import type { Job, components } from "longhand-client";
import { api, client, unwrap } from "../api/index.svelte.js";
import { explain } from "../api/problems.js";
import { toast } from "../components/toasts.svelte.js";
import { bulk } from "./bulk.js";
import { isDeleted } from "./deletions.svelte.js";
import { Pace } from "./pace.js";

type Status = components["schemas"]["JobStatus"];

const PAGE = 30;
const MOST = 100;
const BUSY_MS = 1500;
const QUIET_MS = 8000;
const AWAY_MS = 3000;
const HIDDEN_MS = 60_000;

/** What is shown of the list, in the words of the URL. */
export const FILTERS = {
  all: [],
  active: ["queued", "processing"],
  completed: ["completed"],
  failed: ["failed", "cancelled"],
} as const satisfies Record<string, readonly Status[]>;
export type Filter = keyof typeof FILTERS;

/** What people sorted the recordings by. */
export interface Where {
  readonly tag?: string;
  readonly collection?: string;
}

export const isActive = ({ status }: Job): boolean => status === "queued" || status === "processing";

export class JobList {
  /** Null until the first answer. */
  loaded = $state.raw<Job[] | null>(null);
  error = $state.raw<unknown>(null);
  hasMore = $state(false);
  readonly paces = new Pace();

  #filter: Filter = "all";
  #search = "";
  #where: Where = {};
  #cursor: string | null = null;
  #request = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  get shown(): Job[] {
    return (this.loaded ?? []).filter(({ id }) => !isDeleted(id));
  }

  /** Follow the list until the returned function is called. */
  start(): () => void {
    const wake = (): void => void this.refresh();
    document.addEventListener("visibilitychange", wake);
    addEventListener("online", wake);
    return () => {
      document.removeEventListener("visibilitychange", wake);
      removeEventListener("online", wake);
      clearTimeout(this.#timer);
      this.#request += 1;
    };
  }

  show(filter: Filter, search: string, where: Where): void {
    this.#filter = filter;
    this.#where = where;
    this.#search = search.trim();
    this.loaded = null;
    void this.refresh();
  }

  /** Ask for what is shown once more, and go on asking. */
  async refresh(): Promise<void> {
    const request = ++this.#request;
    clearTimeout(this.#timer);
    try {
      const known = this.loaded ?? [];
      const limit = Math.min(MOST, Math.max(PAGE, known.length));
      const page = await this.#page(limit, null);
      const behind = await this.#others(known, page.data, page.next_cursor);
      if (request !== this.#request) return;
      if (behind.length === 0 || this.loaded === null) this.#cursor = page.next_cursor;
      this.hasMore = this.#cursor !== null;
      this.loaded = [...page.data, ...behind];
      this.error = null;
      this.paces.see(this.loaded);
    } catch (error) {
      if (request !== this.#request) return;
      this.error = error;
    }
    const next = this.error !== null ? AWAY_MS : this.shown.some(isActive) ? BUSY_MS : QUIET_MS;
    this.#timer = setTimeout(() => void this.refresh(), document.hidden ? HIDDEN_MS : next);
  }

  async more(): Promise<void> {
    const request = ++this.#request;
    try {
      const page = await this.#page(PAGE, this.#cursor);
      if (request !== this.#request) return;
      const known = new Set((this.loaded ?? []).map(({ id }) => id));
      this.loaded = [...(this.loaded ?? []), ...page.data.filter(({ id }) => !known.has(id))];
      this.#cursor = page.next_cursor;
      this.hasMore = this.#cursor !== null;
    } catch (error) {
      toast(explain(error), { tone: "danger" });
    }
    void this.refresh();
  }

  async cancel(ids: readonly string[]): Promise<void> {
    await this.#each("cancel", ids);
  }

  async retry(ids: readonly string[]): Promise<void> {
    await this.#each("retry", ids);
  }

  async #each(action: "cancel" | "retry", ids: readonly string[]): Promise<void> {
    try {
      await bulk({ action }, ids);
    } catch (error) {
      toast(explain(error), { tone: "danger" });
    }
    await this.refresh();
  }

  async #page(limit: number, cursor: string | null): Promise<components["schemas"]["JobPage"]> {
    const query = {
      limit,
      status: [...FILTERS[this.#filter]],
      ...(this.#search && { q: this.#search }),
      ...this.#where,
      ...(cursor !== null && { cursor }),
    };
    return await unwrap(client.api.GET("/v1/jobs", { params: { query } }));
  }

  /** What is shown behind the page: as it was, but for jobs that are at work. */
  async #others(known: readonly Job[], page: readonly Job[], next: string | null): Promise<Job[]> {
    const last = page.at(-1);
    if (next === null || last === undefined) return [];
    const fresh = new Set(page.map(({ id }) => id));
    const behind = known.filter(({ id, created_at }) => !fresh.has(id) && created_at < last.created_at);
    const asked = behind.filter(isActive).slice(0, 10);
    const now = await Promise.all(
      asked.map(({ id }) => unwrap(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: id } } })).catch(() => null)),
    );
    const changed = new Map(now.flatMap((job) => (job === null ? [] : [[job.id, job] as const])));
    return behind.map((job) => changed.get(job.id) ?? job);
  }
}
