import { createParser, type EventSourceMessage } from "eventsource-parser";
import { ApiError, Unreachable } from "./errors.js";
import type { components } from "./schema.js";

type Schemas = components["schemas"];
type EventType = Schemas["EventType"];

interface DataOf {
  "job.queued": { filename: string; bytes: number | null };
  "job.started": { audio: { duration: number; sample_rate: number; channels: number } };
  "job.progress": { progress: Schemas["Progress"] };
  "segment.draft": Schemas["SegmentView"];
  "segment.final": Schemas["SegmentView"];
  "segment.corrected": Schemas["SegmentView"];
  "speakers.assigned": { speakers: Schemas["SpeakerView"][]; segments: Schemas["SegmentView"][] };
  "segments.replaced": { removed: number[]; segments: Schemas["SegmentView"][] };
  "speakers.changed": { speakers: Schemas["SpeakerView"][]; merged: { label: string; into: string } | null };
  "job.completed": {
    progress: Schemas["Progress"];
    language: string | null;
    duration: number | null;
    degraded: boolean;
  };
  "job.failed": { error: Schemas["JobError"] };
  "job.cancelled": object;
  "job.retried": { steps: number };
  "job.erased": { erasure_id: string };
  "summary.queued": { number: number };
  "summary.completed": { number: number };
  "summary.failed": { number: number; error: Schemas["JobError"] };
  "answer.queued": { number: number };
  "answer.completed": { number: number };
  "answer.failed": { number: number; error: Schemas["JobError"] };
  "translation.queued": { number: number };
  "translation.completed": { number: number };
  "translation.failed": { number: number; error: Schemas["JobError"] };
}

/** One event of a job; `type` says what `data` has. `seq` counts from 1 without gaps. */
export type JobEvent = {
  // an event that the server has and this file lacks is an error here
  [Type in EventType]: { seq: number; type: Type; data: DataOf[Type] & { job_id: string; seq: number; at: string } };
}[EventType];

export interface Following {
  /** `deleted` goes on when the job has ended, with what people change. */
  until?: "ended" | "deleted";
  /** Told whether the stream is open, each time it opens or breaks off. */
  onConnection?: (open: boolean) => void;
  signal?: AbortSignal;
}

/** Opens the stream behind an event: its body, or null if the job has ended and there is nothing more. */
export type Connect = (after: number, signal: AbortSignal) => Promise<ReadableStream<Uint8Array> | null>;

const ENDS: readonly EventType[] = ["job.completed", "job.failed", "job.cancelled"];

/** Without a byte for so long a connection is dead: there are heartbeats. */
const SILENCE_MS = 40_000;

/** Without any answer for so long a stream is given up. */
const PATIENCE_MS = 60_000;

const MAX_PAUSE_MS = 5_000;

/** A server that says to come back later than that is not asked again. */
const MAX_RETRY_AFTER_MS = 120_000;

/** The events behind number `after` until the job's last; a lost connection is resumed where it broke off. */
export async function* follow(
  connect: Connect,
  after: number,
  { until = "ended", onConnection, signal }: Following = {},
): AsyncGenerator<JobEvent> {
  let lastContact = Date.now();
  let attempt = 0;
  let ended = false;
  for (;;) {
    let asked = 0;
    const connection = new AbortController();
    try {
      const body = await within(connect(after, AbortSignal.any([connection.signal, ...(signal ? [signal] : [])])));
      if (body === null) return;
      onConnection?.(true);
      for await (const event of parse(body)) {
        attempt = 0;
        ended = ENDS.includes(event.type) || (ended && event.type !== "job.retried");
        after = event.seq;
        yield event;
        // who reads may have taken a while
        lastContact = Date.now();
      }
      lastContact = Date.now();
    } catch (error) {
      signal?.throwIfAborted();
      asked = mayPass(error);
      if (Date.now() - lastContact > PATIENCE_MS) throw givenUp(error, after);
    } finally {
      connection.abort();
      onConnection?.(false);
    }
    // the stream may have ended before the job did
    if (ended && until === "ended") return;
    attempt += 1;
    const jittered = Math.min(500 * 2 ** attempt, MAX_PAUSE_MS) * (0.5 + Math.random() / 2);
    await pause(Math.max(asked, jittered), signal);
  }
}

/** Milliseconds that the server asks to wait for. Throws what waiting does not mend. */
function mayPass(error: unknown): number {
  // without an answer: fetch throws a TypeError, a broken stream whatever the platform likes
  if (!(error instanceof ApiError)) return 0;
  const asked = (error.retryAfter ?? 0) * 1000;
  if (!error.passing || asked > MAX_RETRY_AFTER_MS) throw error;
  return asked;
}

function givenUp(error: unknown, after: number): Error {
  return error instanceof ApiError
    ? error
    : new Unreachable(`The events behind number ${after} are out of reach.`, { cause: error });
}

async function* parse(body: ReadableStream<Uint8Array>): AsyncGenerator<JobEvent> {
  const decoder = new TextDecoder();
  const messages: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (message) => messages.push(message) });
  // not every browser iterates over a stream
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await within(reader.read());
    if (done) return;
    parser.feed(decoder.decode(value, { stream: true }));
    for (const { id, event, data } of messages.splice(0)) {
      yield { seq: Number(id), type: event, data: JSON.parse(data) } as JobEvent;
    }
  }
}

/** The result, unless nothing comes for too long. */
async function within<T>(result: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("The connection is silent.")), SILENCE_MS);
  });
  try {
    return await Promise.race([result, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/** Throws the signal's reason once it is aborted. */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
