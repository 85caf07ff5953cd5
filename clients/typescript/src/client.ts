import createApi, { type Client as Api } from "openapi-fetch";
import { JobFailed, unwrap } from "./errors.js";
import { follow, pause, type Following, type JobEvent } from "./events.js";
import type { components, operations, paths } from "./schema.js";

export type Job = components["schemas"]["JobView"];
export type JobOptions = components["schemas"]["JobOptions"];
export type Segment = components["schemas"]["SegmentView"];
export type Transcript = components["schemas"]["TranscriptView"];
export type TranscriptFormat = components["schemas"]["Format"];
export type TranscriptOptions = Omit<NonNullable<operations["show_transcript"]["parameters"]["query"]>, "format">;

export interface ClientOptions {
  /** Where the server is, such as `https://longhand.example.com`. */
  baseUrl: string;
  /** An API key, or a token; a function is asked before each request, for tokens that expire. */
  key?: string | (() => string | Promise<string>);
  fetch?: typeof globalThis.fetch;
}

export interface SubmitOptions {
  /** Of a Blob that has no name. */
  filename?: string;
  /** The same key with the same recording and options answers with the job that it made first. */
  idempotencyKey?: string;
  signal?: AbortSignal;
}

export interface EventsOptions extends Following {
  after?: number;
}

type Listed = NonNullable<operations["list_jobs"]["parameters"]["query"]>;

const MAX_POLL_MS = 3_000;

/** A server. `api` has every operation of it, typed; the methods are for what takes more than one request. */
export class Client {
  readonly api: Api<paths>;
  readonly baseUrl: string;
  readonly #key: ClientOptions["key"];

  constructor({ baseUrl, key, fetch }: ClientOptions) {
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.#key = key;
    this.api = createApi<paths>({ baseUrl: this.baseUrl, ...(fetch && { fetch }) });
    this.api.use({
      onRequest: async ({ request }) => {
        for (const [name, value] of Object.entries(await this.headers())) request.headers.set(name, value);
      },
    });
  }

  /** What every request says of who sends it. */
  async headers(): Promise<Record<string, string>> {
    const key = typeof this.#key === "function" ? await this.#key() : this.#key;
    return key ? { Authorization: `Bearer ${key.trim()}` } : {};
  }

  /** Upload a recording. Returns the job as soon as it is stored. Throws ApiError, as all others do. */
  async submit(recording: Blob, options: JobOptions = {}, more: SubmitOptions = {}): Promise<Job> {
    const filename = more.filename ?? (recording instanceof File ? recording.name : "recording");
    return await unwrap(
      this.api.POST("/v1/jobs", {
        params: { header: { "idempotency-key": more.idempotencyKey ?? crypto.randomUUID() } },
        body: { file: recording, options: JSON.stringify(options) },
        bodySerializer: () => {
          const form = new FormData();
          // the options first: a mistake in them is told before the recording is sent
          form.set("options", JSON.stringify(options));
          form.set("file", recording, filename);
          return form;
        },
        ...(more.signal && { signal: more.signal }),
      }),
    );
  }

  /** Wait until the job is completed. Throws JobFailed if it ends otherwise. */
  async wait(jobId: string, signal?: AbortSignal): Promise<Job> {
    const request = { params: { path: { job_id: jobId } }, ...(signal && { signal }) };
    for (let interval = 200; ; interval = Math.min(MAX_POLL_MS, interval * 1.3)) {
      const job = await unwrap(this.api.GET("/v1/jobs/{job_id}", request));
      if (job.status === "completed") return job;
      if (job.status === "failed" || job.status === "cancelled") throw new JobFailed(job);
      await pause(interval, signal);
    }
  }

  /** Every event of the job, live, each once, from behind number `after` until its last, or until it is deleted. */
  events(jobId: string, { after = 0, ...following }: EventsOptions = {}): AsyncGenerator<JobEvent> {
    const { until = "ended" } = following;
    const connect = async (seen: number, connection: AbortSignal): Promise<ReadableStream<Uint8Array> | null> => {
      const params = { path: { job_id: jobId }, query: { until }, header: { "last-event-id": String(seen) } };
      const call = this.api.GET("/v1/jobs/{job_id}/events", { params, parseAs: "stream", signal: connection });
      // without a body, 204, it has ended
      return (await unwrap(call)) ?? null;
    };
    return follow(connect, after, following);
  }

  /** Jobs, newest first: all of them, page by page. */
  async *jobs(query: Omit<Listed, "cursor"> = {}): AsyncGenerator<Job> {
    let cursor: string | null | undefined;
    do {
      const page = await unwrap(this.api.GET("/v1/jobs", { params: { query: { ...query, cursor: cursor ?? null } } }));
      yield* page.data;
      cursor = page.next_cursor;
    } while (cursor !== null);
  }

  /** The transcript: until the job is completed the segments so far, drafts included. */
  async transcript(jobId: string): Promise<Transcript> {
    const params = { path: { job_id: jobId } };
    return (await unwrap(this.api.GET("/v1/jobs/{job_id}/transcript", { params }))) as Transcript;
  }

  /** The transcript as a file, with options of the format, or in another `language`. */
  async transcriptAs(jobId: string, format: TranscriptFormat, options: TranscriptOptions = {}): Promise<Blob> {
    const params = { path: { job_id: jobId }, query: { ...options, format } };
    return await unwrap(this.api.GET("/v1/jobs/{job_id}/transcript", { params, parseAs: "blob" }));
  }
}
