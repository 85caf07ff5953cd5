/** The transcript that is open: loaded, kept up to date by events, and changed by who reads it. */
import { api, ApiError, client, session, unwrap, type Job, type JobEvent, type Transcript } from "../api/index.svelte.js";
import { isGone } from "../api/problems.js";
import { mergeTexts } from "./diff.js";
import { enqueue, History, inverse, resolve, withWaiting, type Done, type Operation, type Waiting } from "./edits.js";
import { Model, speakersOf, versionOf, type Segment, type Speaker, type Turn } from "./model.js";
import { Outbox } from "./outbox.js";

/** What was typed, and what stands there now; null where the segment is gone. */
export interface Conflict {
  readonly waiting: Waiting;
  readonly mine: string;
  readonly theirs: Segment | null;
  /** Whether the server takes no such text, whoever changed what. */
  readonly refused: boolean;
}

export interface Peaks {
  readonly end: number;
  readonly peaks: readonly number[];
}

const RETRY_MS = [500, 1000, 2000, 4000];
const SIGN_IN_MS = 1000;
const POINTS = 4000;

export class TranscriptStore {
  job = $state.raw<Job | null>(null);
  segments = $state.raw<readonly Segment[]>([]);
  turns = $state.raw<readonly Turn[]>([]);
  speakers = $state.raw<readonly Speaker[]>([]);
  peaks = $state.raw<Peaks | null>(null);
  error = $state.raw<unknown>(null);
  loaded = $state(false);
  gone = $state(false);
  connected = $state(true);
  waiting = $state.raw<readonly Waiting[]>([]);
  conflicts = $state.raw<readonly Conflict[]>([]);
  canUndo = $state(false);
  canRedo = $state(false);
  /** Called before and after the list changes, so that what is read stays where it is. */
  around: (change: () => void) => void = (change) => change();
  /** Told of changes that the server refused. */
  onRefused: (error: unknown) => void = () => {};
  /** Told that an undo meets what others changed. */
  onOvertaken: () => void = () => {};

  #model = new Model();
  #after = 0;
  #history = new History();
  #outbox: Outbox;
  #stop = new AbortController();
  #sending: string | null = null;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #settled = new Map<string, (result: readonly Segment[] | null) => void>();
  #unrecorded = new Set<string>();
  #drawing = false;
  #idle: (() => void)[] = [];

  constructor(readonly id: string) {
    this.#outbox = new Outbox(id);
  }

  start(): () => void {
    const wake = (): void => void this.#send();
    addEventListener("online", wake);
    void this.#run();
    return () => {
      this.#stop.abort();
      clearTimeout(this.#timer);
      removeEventListener("online", wake);
      if (this.#sending === null) this.#outbox.close();
    };
  }

  async #run(): Promise<void> {
    await this.#load();
    if (this.error !== null || this.gone) return;
    const left = await this.#outbox.adopt();
    if (left.length > 0) this.#queue([...left, ...this.waiting]);
    await this.#follow();
  }

  retry = (): void => {
    this.error = null;
    void this.#run();
  };

  async #load(): Promise<void> {
    const path = { job_id: this.id };
    const signal = this.#stop.signal;
    try {
      const answer = api.GET("/v1/jobs/{job_id}/transcript", { params: { path }, signal });
      // what is there first is shown first
      this.job = await unwrap(api.GET("/v1/jobs/{job_id}", { params: { path }, signal }));
      this.#model = Model.of((await unwrap(answer)) as Transcript);
      this.#after = Number((await answer).response.headers.get("Last-Event-ID") ?? 0);
      this.#draw();
      this.loaded = true;
      void this.#loadPeaks();
    } catch (failure) {
      if (signal.aborted) return;
      if (isGone(failure)) this.gone = true;
      else this.error = failure;
    }
  }

  /** The waveform is there once the recording is cut: by then the job is done by more than half. */
  async #loadPeaks(): Promise<void> {
    const job = this.job;
    if (job === null || this.peaks !== null || job.audio.erased_at !== null) return;
    if (job.progress.percent <= 50 || job.audio.duration === null) return;
    const params = { path: { job_id: this.id }, query: { points: POINTS } };
    try {
      this.peaks = await unwrap(api.GET("/v1/jobs/{job_id}/peaks", { params, signal: this.#stop.signal }));
    } catch {
      // there is none yet, or no more: the turns are drawn alone
      this.peaks = null;
    }
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    const onConnection = (open: boolean): void => {
      this.connected = open;
      if (open) void this.#send();
    };
    for (let again = false; !signal.aborted && !this.gone; again = true) {
      try {
        // what its last event told may not have been asked for yet; streams end with the job's deletion, too
        if (again) this.job = await unwrap(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: this.id } }, signal }));
        const events = client.events(this.id, { after: this.#after, until: "deleted", onConnection, signal });
        for await (const event of events) await this.#take(event);
      } catch (failure) {
        if (signal.aborted) return;
        if (isGone(failure)) this.gone = true;
        else if (failure instanceof ApiError && failure.code === "events_erased") await this.#load();
      }
      do await new Promise((done) => setTimeout(done, SIGN_IN_MS));
      while (session.asked && !signal.aborted);
    }
  }

  async #take(event: JobEvent): Promise<void> {
    this.#after = event.seq;
    if (this.#model.apply(event)) this.#drawSoon();
    const job = this.job;
    if (job === null) return;
    switch (event.type) {
      case "job.started":
        this.job = { ...job, status: "processing", audio: { ...job.audio, ...event.data.audio } };
        break;
      case "job.progress":
        this.job = { ...job, progress: event.data.progress };
        void this.#loadPeaks();
        break;
      case "job.completed":
      case "job.failed":
      case "job.cancelled":
      case "job.retried":
        this.job = await unwrap(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: this.id } } }));
        void this.#loadPeaks();
        break;
      case "job.erased":
        // what was erased is not brought back by an undo
        this.#history = new History();
        this.#updateHistory();
        await this.#load();
        break;
      default:
    }
  }

  /** Events come in bursts: the list is drawn once a frame. */
  #drawSoon(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    // frames are not drawn in a tab that nobody sees
    (document.hidden ? setTimeout : requestAnimationFrame)(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #draw(): void {
    this.around(() => {
      const changed = new Set(this.waiting.map(({ operation }) => operation.index));
      const list = this.#model.segments;
      this.segments = changed.size === 0
        ? list
        : list.map((each) => (changed.has(each.index) ? withWaiting(each, this.waiting) : each));
      this.turns = this.#model.turns;
      this.speakers = speakersOf(this.#model.speakers, this.segments);
    });
  }

  /** Do something to the transcript, to a segment as it is or as it was at a version. The result is what the server made of it; null if it refused. */
  async perform(
    operation: Operation,
    { record = true, version }: { record?: boolean; version?: number } = {},
  ): Promise<readonly Segment[] | null> {
    const segment = this.#model.get(operation.index);
    const seen = version ?? (segment && versionOf(segment));
    // what was typed into a segment that is gone meanwhile is not lost: the server refuses it, and it is shown
    if (seen === undefined || segment?.provisional) return null;
    const added: Waiting = { id: crypto.randomUUID(), operation, version: seen };
    const queue = enqueue(this.waiting, added, this.#sending);
    const id = queue.at(-1)?.id ?? added.id;
    if (!record) this.#unrecorded.add(id);
    const before = this.#settled.get(id);
    const result = new Promise<readonly Segment[] | null>((done) => {
      this.#settled.set(id, (segments) => {
        before?.(segments);
        done(segments);
      });
    });
    this.#queue(queue);
    return await result;
  }

  #queue(waiting: readonly Waiting[]): void {
    this.waiting = waiting;
    this.#outbox.save([...waiting, ...this.conflicts.map((conflict) => conflict.waiting)]);
    this.#draw();
    void this.#send();
  }

  /** Send what waits, one after the other. */
  async #send(): Promise<void> {
    const next = this.waiting[0];
    if (this.#sending !== null || next === undefined || this.#stop.signal.aborted) return;
    if (session.asked) {
      // refused until somebody signs in again: asking would only count as guessing keys
      this.#timer = setTimeout(() => void this.#send(), SIGN_IN_MS);
      return;
    }
    this.#sending = next.id;
    clearTimeout(this.#timer);
    const { operation } = next;
    const before = [this.#model.get(operation.index), operation.kind === "merge" ? this.#model.get(operation.next) : undefined];
    let pause = 0;
    try {
      const after = await send(this.id, next);
      this.#attempt = 0;
      this.#accept(next, before.filter((each) => each !== undefined), after);
    } catch (failure) {
      pause = this.#fail(next, failure);
    }
    this.#sending = null;
    if (this.#stop.signal.aborted) return this.#outbox.close();
    if (this.waiting.length === 0) return;
    if (pause === 0) void this.#send();
    else this.#timer = setTimeout(() => void this.#send(), pause);
  }

  #accept(sent: Waiting, before: readonly Segment[], after: readonly Segment[]): void {
    const { operation } = sent;
    const seq = Math.max(...after.map(versionOf));
    if (operation.kind === "merge") this.#model.replace([operation.next], after, seq);
    else for (const segment of after) this.#model.put(segment);
    if (!this.#unrecorded.delete(sent.id)) this.#history.did(operation, inverse(operation, before, after));
    const versions = new Map(after.map((each) => [each.index, versionOf(each)]));
    const rest = this.waiting
      .filter(({ id }) => id !== sent.id)
      .map((each) => ({ ...each, version: versions.get(each.operation.index) ?? each.version }));
    this.#finish(sent, rest, after);
  }

  #finish(sent: Waiting, rest: readonly Waiting[], result: readonly Segment[] | null): void {
    this.waiting = rest;
    this.#outbox.save([...rest, ...this.conflicts.map((conflict) => conflict.waiting)]);
    this.#draw();
    this.#updateHistory();
    this.#settled.get(sent.id)?.(result);
    this.#settled.delete(sent.id);
    if (rest.length === 0) for (const done of this.#idle.splice(0)) done();
  }

  /** Until nothing waits any more: only what the server has taken can be undone. */
  async #sent(): Promise<void> {
    if (this.waiting.length > 0) await new Promise<void>((done) => this.#idle.push(done));
  }

  #updateHistory(): void {
    this.canUndo = this.#history.canUndo;
    this.canRedo = this.#history.canRedo;
  }

  /** Milliseconds to wait before the next attempt. */
  #fail(sent: Waiting, failure: unknown): number {
    const again = !(failure instanceof ApiError) || failure.passing || failure.status === 401;
    if (again) return RETRY_MS[Math.min(this.#attempt++, RETRY_MS.length - 1)] ?? 0;
    const rest = this.waiting.filter(({ id }) => id !== sent.id);
    const { operation } = sent;
    if (failure.code === "segment_changed") {
      const now = failure.document["segment"] as Segment;
      this.#model.put(now);
      const resolution = now.index === operation.index ? resolve(operation, now) : ({ kind: "done" } as const);
      if (resolution.kind === "again") {
        this.waiting = [{ ...sent, operation: resolution.operation, version: resolution.version }, ...rest];
        return 0;
      }
      if (resolution.kind === "conflict") this.#conflict(sent, resolution.mine, now);
      else if (operation.kind !== "text" && operation.kind !== "speaker") this.onOvertaken();
    } else if (failure.code === "segment_not_found" && operation.kind === "text") {
      this.#conflict(sent, operation.text, null);
    } else {
      this.onRefused(failure);
      if (operation.kind === "text") this.#conflict(sent, operation.text, this.#model.get(operation.index) ?? null, true);
    }
    this.#unrecorded.delete(sent.id);
    this.#finish(sent, rest, null);
    return 0;
  }

  #conflict(waiting: Waiting, mine: string, theirs: Segment | null, refused = false): void {
    this.conflicts = [...this.conflicts, { waiting, mine, theirs, refused }];
  }

  /** Keep what is there now, or write this text over it. */
  settle(conflict: Conflict, text: string | null): void {
    this.conflicts = this.conflicts.filter((each) => each !== conflict);
    const now = conflict.theirs && this.#model.get(conflict.theirs.index);
    if (text !== null && now) void this.perform({ kind: "text", index: now.index, text, base: now.text });
    else this.#queue(this.waiting);
  }

  async undo(): Promise<void> {
    const last = this.waiting.at(-1);
    if (last !== undefined && last.id !== this.#sending) {
      // nobody has heard of it yet
      this.#unrecorded.delete(last.id);
      return this.#finish(last, this.waiting.slice(0, -1), null);
    }
    await this.#sent();
    const done = this.#history.takeUndo();
    if (done) await this.#replay(done.undo, done);
  }

  async redo(): Promise<void> {
    await this.#sent();
    const done = this.#history.takeRedo();
    if (done) await this.#replay(done.redo, done);
  }

  async #replay(operations: readonly Operation[], { undo, redo }: Done): Promise<void> {
    this.#updateHistory();
    let renumbered: readonly [number, number] | null = null;
    for (const each of operations) {
      const index = renumbered?.[0] === each.index ? renumbered[1] : each.index;
      const operation = this.#overOthers({ ...each, index });
      if (operation === null) return this.onOvertaken();
      const result = await this.perform(operation, { record: false });
      if (result === null) return;
      await this.#restore(operation, result[0]);
      const second = result[1];
      if (each.kind !== "split" || second === undefined) continue;
      const joining = [...undo, ...redo].find((other) => other.kind === "merge" && other.index === each.index);
      if (joining?.kind !== "merge") continue;
      renumbered = [joining.next, second.index];
      this.#history.renumber(...renumbered);
    }
  }

  /** What was joined of a person's words and the models' is more than the models wrote: the person's words, too. */
  async #restore(operation: Operation, reverted: Segment | undefined): Promise<void> {
    if (operation.kind !== "revert" || operation.undoes === undefined || reverted === undefined) return;
    const { text } = operation.undoes;
    if (text === reverted.text) return;
    await this.perform({ kind: "text", index: reverted.index, text, base: reverted.text }, { record: false });
  }

  /** An older text, with what others changed since; null where that cannot be. */
  #overOthers(operation: Operation): Operation | null {
    const now = this.#model.get(operation.index);
    if (now === undefined) return null;
    if (operation.kind === "revert" && operation.undoes !== undefined && operation.undoes.base !== now.text) {
      return this.#overOthers({ kind: "text", index: operation.index, ...operation.undoes });
    }
    if (operation.kind !== "text" || operation.base === now.text) return operation;
    const merged = mergeTexts(operation.base, operation.text, now.text);
    return merged === null ? null : { ...operation, text: merged, base: now.text };
  }

  /** Change who speaks: for everybody who has the transcript open, the server tells of it. */
  async changeSpeaker(change: { label: string; name?: string | null; voice_id?: string | null }): Promise<void> {
    const params = { path: { job_id: this.id } };
    await unwrap(api.PATCH("/v1/jobs/{job_id}/speakers", { params, body: change }));
  }

  async mergeSpeakers(label: string, into: string): Promise<void> {
    const params = { path: { job_id: this.id } };
    await unwrap(api.POST("/v1/jobs/{job_id}/speakers/merge", { params, body: { label, into } }));
  }

  async enrol(label: string, name: string): Promise<void> {
    await unwrap(
      api.POST("/v1/voices", {
        body: { name, job_id: this.id, speaker: label } as never,
        bodySerializer: JSON.stringify,
        headers: { "Content-Type": "application/json" },
      }),
    );
  }
}

/** What the server makes of an operation. */
async function send(jobId: string, { operation, version }: Waiting): Promise<readonly Segment[]> {
  const params = { path: { job_id: jobId, index: operation.index } };
  switch (operation.kind) {
    case "text": {
      const body = { text: operation.text, version };
      return [await unwrap(api.PATCH("/v1/jobs/{job_id}/segments/{index}", { params, body }))];
    }
    case "speaker": {
      const body = { speaker: operation.speaker, version };
      return [await unwrap(api.PATCH("/v1/jobs/{job_id}/segments/{index}", { params, body }))];
    }
    case "revert":
      return [await unwrap(api.POST("/v1/jobs/{job_id}/segments/{index}/revert", { params, body: { version } }))];
    case "split": {
      const body = { at: operation.at, version };
      return (await unwrap(api.POST("/v1/jobs/{job_id}/segments/{index}/split", { params, body }))).segments;
    }
    case "merge": {
      const body = { next: operation.next, version };
      return (await unwrap(api.POST("/v1/jobs/{job_id}/segments/{index}/merge", { params, body }))).segments;
    }
  }
}
