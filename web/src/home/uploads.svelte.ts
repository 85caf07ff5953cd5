/** Recordings on their way to the server. They go on while one looks at other pages. */
import { ApiError, type JobOptions } from "longhand-client";
import { uploadResumable } from "longhand-client/resumable";
import { defaultOptions, type PreviousUpload } from "tus-js-client";
import { api, client, unwrap } from "../api/index.svelte.js";
import { explain } from "../api/problems.js";
import { t } from "../i18n/index.svelte.js";

const AT_ONCE = 2;
const CHUNK_BYTES = 16 * 1024 * 1024;

/** `lost`: it was broken off by closing the page; its file has to be chosen again. */
export type State = "waiting" | "sending" | "finishing" | "paused" | "failed" | "lost";

export class Sending {
  readonly key: string;
  readonly name: string;
  readonly size: number;
  state = $state<State>("waiting");
  sent = $state(0);
  error = $state("");
  /** Whether it failed only because nobody answered. */
  offline = false;
  /** Of the upload at the server, once there is one. */
  id: string | null = null;
  /** Whether all of it is there. */
  complete = false;
  connection: AbortController | null = null;

  constructor(
    readonly file: File | null,
    readonly options: JobOptions,
    known: { name: string; size: number },
  ) {
    this.name = known.name;
    this.size = known.size;
    this.key = file === null ? `lost ${known.name} ${known.size}` : keyOf(file);
  }
}

/** The same for the same file, chosen again. */
const keyOf = (file: File): string => `${file.webkitRelativePath || file.name} ${file.size} ${file.lastModified}`;

export const uploads = $state<{ list: Sending[] }>({ list: [] });

const made = new EventTarget();

/** Be told of each job that an upload became. Returns what ends that. */
export function onJobMade(told: () => void): () => void {
  made.addEventListener("job", told);
  return () => made.removeEventListener("job", told);
}

export function jobMade(): void {
  made.dispatchEvent(new Event("job"));
}

/** Send files; one that is on its way already is left out. */
export function send(files: readonly File[], options: JobOptions): void {
  const known = new Set(uploads.list.map(({ key }) => key));
  const fresh = files.filter((file) => !known.has(keyOf(file)));
  const again = new Set(fresh.map((file) => `${file.name} ${file.size}`));
  uploads.list = [
    // what was broken off goes on with its file
    ...uploads.list.filter(({ state, name, size }) => state !== "lost" || !again.has(`${name} ${size}`)),
    ...fresh.map((file) => new Sending(file, options, file)),
  ];
  pump();
}

export function pause(sending: Sending): void {
  sending.state = "paused";
  sending.connection?.abort();
  pump();
}

/** Go on with what was paused or has failed. */
export function resume(sending: Sending): void {
  sending.state = "waiting";
  sending.error = "";
  pump();
}

/** Forget it, here and at the server. */
export async function discard(sending: Sending): Promise<void> {
  sending.connection?.abort();
  uploads.list = uploads.list.filter((each) => each !== sending);
  pump();
  if (sending.id === null) return;
  await forgetUrl(sending.id);
  // what cannot be removed now expires by itself
  await api.DELETE("/v1/uploads/{upload_id}", { params: { path: { upload_id: sending.id } } }).catch(() => null);
}

/** What earlier visits left unfinished, and the server still has. */
export async function findLost(): Promise<void> {
  for (const previous of await defaultOptions.urlStorage.findAllUploads()) {
    const id = idOf(previous);
    const name = previous.metadata["filename"] ?? "";
    if (uploads.list.some((each) => each.id === id)) continue;
    const call = api.GET("/v1/uploads/{upload_id}", { params: { path: { upload_id: id } } });
    const upload = await unwrap(call).catch(() => null);
    if (upload === null || upload.status === "used" || uploads.list.some((each) => each.id === id)) continue;
    const sending = new Sending(null, {}, { name, size: upload.bytes });
    sending.id = id;
    sending.sent = upload.received;
    sending.state = "lost";
    uploads.list = [...uploads.list, sending];
  }
}

const idOf = ({ uploadUrl }: PreviousUpload): string => uploadUrl?.replace(/.*\//, "") ?? "";

async function forgetUrl(id: string): Promise<void> {
  for (const previous of await defaultOptions.urlStorage.findAllUploads()) {
    if (idOf(previous) === id) await defaultOptions.urlStorage.removeUpload(previous.urlStorageKey);
  }
}

function pump(): void {
  const busy = uploads.list.filter(({ state }) => state === "sending" || state === "finishing").length;
  const next = uploads.list.filter(({ state }) => state === "waiting").slice(0, Math.max(0, AT_ONCE - busy));
  for (const sending of next) void run(sending);
}

async function run(sending: Sending): Promise<void> {
  sending.state = "sending";
  const connection = new AbortController();
  sending.connection = connection;
  try {
    if (!sending.complete) await transfer(sending, connection.signal);
    connection.signal.throwIfAborted();
    sending.state = "finishing";
    await makeJob(sending, connection.signal);
    uploads.list = uploads.list.filter((each) => each !== sending);
    jobMade();
  } catch (error) {
    // a pause, or the end of it, is no failure
    if (!connection.signal.aborted) fail(sending, error);
  }
  pump();
}

async function transfer(sending: Sending, signal: AbortSignal): Promise<void> {
  if (sending.file === null) throw new Error("The file has to be chosen again.");
  await uploadResumable(client, sending.file, {
    filename: sending.name,
    chunkSize: CHUNK_BYTES,
    signal,
    onUpload: (id) => (sending.id = id),
    onProgress: (sent) => (sending.sent = sent),
  });
  sending.complete = true;
}

async function makeJob({ id, options }: Sending, signal: AbortSignal): Promise<void> {
  const header = { "idempotency-key": id ?? "" };
  await unwrap(api.POST("/v1/jobs", { params: { header }, body: { upload_id: id, options }, signal }));
}

function fail(sending: Sending, error: unknown): void {
  sending.state = "failed";
  sending.offline = !(error instanceof ApiError) && statusOf(error) === 0;
  sending.error = explain(refusal(error));
}

/** What tus-js-client's errors hide: the server's problem document. */
function refusal(error: unknown): unknown {
  const body = (error as { originalResponse?: { getBody(): string } }).originalResponse?.getBody() ?? "";
  try {
    const { code, title, detail } = JSON.parse(body) as Record<string, string>;
    return new ApiError(statusOf(error), code ?? "", title ?? "", detail ?? t("home.uploads.failed"));
  } catch {
    return error;
  }
}

const statusOf = (error: unknown): number =>
  (error as { originalResponse?: { getStatus(): number } | null }).originalResponse?.getStatus() ?? 0;

addEventListener("online", () => {
  for (const sending of uploads.list) if (sending.state === "failed" && sending.offline) resume(sending);
});

addEventListener("beforeunload", (event) => {
  if (uploads.list.some(({ state }) => state === "sending" || state === "waiting")) event.preventDefault();
});
