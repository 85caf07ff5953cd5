/** Speech on its way to the server, and the words that come back. It goes on while other pages are looked at. */
import { ApiError, type JobOptions } from "longhand-client";
import { api, session, unwrap } from "../api/index.svelte.js";
import { explainCode } from "../api/problems.js";
import { server } from "../api/server.svelte.js";
import { toast } from "../components/toasts.svelte.js";
import { t } from "../i18n/index.svelte.js";
import { navigate, route } from "../routes.js";
import { liveUrl } from "./address.js";
import type { Ack, Failure, Message, Partial } from "./messages.js";
import type { Microphone, Pcm } from "./microphone.svelte.js";
import { Unstored } from "./unstored.js";

/** That may wait for the server; then the recording pauses by itself. Twenty megabytes at most of the rates that browsers have. */
const MAX_UNSTORED_SECONDS = 600;
/** Bytes that may wait in the socket: the rest stays here. */
const MAX_WAITING = 2 ** 18;
/** Without a word from a server that should have stored something: the line is dead. */
const DEAD_MS = 10_000;
/** The same at the end, where the server may be busy for a while with what is left. */
const DEAD_AT_END_MS = 30_000;
const FIRST_RETRY_MS = 300;
const LAST_RETRY_MS = 5000;
/** In a pause, silence that ends the utterance, and then so little each second that the session stays. */
const PAUSE_SECONDS = 1;
const ALIVE_SECONDS = 0.02;
const PIECES_PER_SECOND = 10;

/** What passes: connecting again goes on. */
const PASSING = new Set(["server_restart", "unavailable", "stage_unavailable", "unauthorized", "token_expired", "token_invalid"]);
const PASSING_STATUS = new Set([401, 408, 429]);

/** Where it stands: before the first connection; while words come; while the line is lost; after it was stopped, until the
 * server has all; when it went wrong for good. */
export type State = "connecting" | "live" | "away" | "finishing" | "failed";

class Recording {
  state = $state<State>("connecting");
  paused = $state(false);
  /** Whether it waits for nothing but the server. */
  stopped = $state(false);
  /** That were recorded, without pauses. */
  seconds = $state(0);
  /** Utterances that are over. */
  finals = $state.raw<readonly string[]>([]);
  /** Those that are not, in the order in which they began. */
  partials = $state.raw<readonly Partial[]>([]);
  /** What a person should know. */
  notice = $state<"" | "asr" | "full" | "unplugged">("");
  /** Why it failed, in the reader's words. */
  error = $state("");
  jobId = $state<string | null>(null);

  readonly tenant = server()?.tenant;
  readonly microphone: Microphone;
  readonly #options: JobOptions;
  readonly #rate: number;
  readonly #unstored = new Unstored();
  #flowId = newFlowId();
  /** Whether the server may know the flow. */
  #begun = false;
  /** The first sample of the session: one that was away for too long is followed by another one. */
  #first = 0;
  #sent = 0;
  #lastSeq = 0;
  #spoken = 0;
  #quiet = 0;
  #endSent = false;
  #over = false;
  #parts = 1;
  #socket: WebSocket | null = null;
  #heardAt = 0;
  #attempts = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #watching = setInterval(() => this.#watch(), 1000);

  constructor(microphone: Microphone, options: JobOptions) {
    this.microphone = microphone;
    this.#options = options;
    this.#rate = microphone.sampleRate;
    microphone.onPiece = (pcm) => this.#take(pcm);
    microphone.onLost = () => {
      this.notice = "unplugged";
      this.pause();
    };
    addEventListener("beforeunload", stay);
    void this.#connect();
  }

  pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.#quiet = 0;
    this.#unstored.add(this.#silence(PAUSE_SECONDS));
    this.#pump();
  }

  resume(): void {
    this.paused = false;
    this.notice = "";
    this.#heardAt = performance.now();
  }

  /** Listen to another microphone. Throws DOMException. */
  async use(device: string): Promise<void> {
    await this.microphone.use(device);
    if (this.notice === "unplugged") this.resume();
  }

  /** Record no more, and have all become final. */
  stop(): void {
    if (this.stopped || this.#over) return;
    this.stopped = true;
    this.#heardAt = performance.now();
    this.microphone.close();
    if (this.state === "live") this.state = "finishing";
    this.#pump();
  }

  /** Wait for nothing any more: what the server has is what there is. */
  leave(): void {
    this.#close();
    if (recorder.current === this) recorder.current = null;
  }

  #close(): void {
    this.#over = true;
    this.microphone.close();
    clearTimeout(this.#timer);
    clearInterval(this.#watching);
    this.#disconnect();
    removeEventListener("beforeunload", stay);
  }

  #take(pcm: Pcm): void {
    if (!this.paused) {
      this.#unstored.add(pcm);
      this.#spoken += pcm.length;
      this.seconds = Math.floor(this.#spoken / this.#rate);
    } else if (++this.#quiet % PIECES_PER_SECOND === 0 && this.notice !== "full") {
      this.#unstored.add(this.#silence(ALIVE_SECONDS));
    }
    if (this.#waiting > MAX_UNSTORED_SECONDS * this.#rate && !this.paused) {
      this.notice = "full";
      this.pause();
    }
    this.#pump();
  }

  /** A line may die without a word: then nothing tells of it but silence. */
  #watch(): void {
    const patience = this.state === "finishing" ? DEAD_AT_END_MS : this.state === "live" && !this.paused ? DEAD_MS : Infinity;
    if (performance.now() - this.#heardAt > patience) this.#lose();
  }

  get #waiting(): number {
    return this.#unstored.end - this.#unstored.start;
  }

  #silence(seconds: number): Pcm {
    return new Int16Array(Math.round(seconds * this.#rate));
  }

  /** Samples from the beginning of all that was recorded, of milliseconds of the session. */
  #sample(milliseconds: number): number {
    return this.#first + Math.floor((milliseconds * this.#rate) / 1000);
  }

  async #connect(): Promise<void> {
    // nobody is signed in any more, or somebody else is
    if (session.asked || server() === null) return this.#retry();
    if (server()?.tenant !== this.tenant) return this.leave();
    let token: string | null;
    try {
      token = await makeToken();
    } catch (error) {
      const refused = error instanceof ApiError && error.status < 500 && !PASSING_STATUS.has(error.status);
      return refused ? this.#fail(error.code, error.detail) : this.#retry();
    }
    if (this.#over) return;
    let socket: WebSocket;
    try {
      socket = new WebSocket(liveUrl(server()?.live_url ?? null, new URL(location.href)));
    } catch {
      // a page that came by HTTPS connects by wss:// alone
      return this.#fail("live_unreachable", "");
    }
    this.#socket = socket;
    socket.onopen = () => {
      this.#say({
        type: "start",
        flowId: this.#flowId,
        ...(this.#begun && { after: this.#lastSeq }),
        audio: { codec: "pcm_s16le", sr: this.#rate, channels: 1 },
        return: ["lid", "asr"],
        auth: { token },
        options: this.#options,
      });
    };
    socket.onmessage = ({ data }: MessageEvent<string>) => this.#hear(JSON.parse(data) as Message);
    socket.onclose = () => this.#lose();
  }

  #say(message: object): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #hear(message: Message): void {
    this.#heardAt = performance.now();
    switch (message.type) {
      case "ack":
        this.#acknowledge(message);
        break;
      case "asr_partial":
        this.#hearAgain();
        this.partials = [...this.partials.filter(({ utterance }) => utterance < message.utterance), message];
        break;
      case "asr_final":
        this.#hearAgain();
        this.partials = this.partials.filter(({ utterance }) => utterance > message.utterance);
        if (message.seq <= this.#lastSeq) break;
        this.#lastSeq = message.seq;
        this.finals = [...this.finals, message.text];
        break;
      case "error":
        if (message.fatal) this.#refuse(message);
        else if (this.notice === "") this.notice = "asr";
        break;
      case "end":
        this.#finish();
        break;
    }
    this.#pump();
  }

  /** Words come, so ASR has room. */
  #hearAgain(): void {
    if (this.notice === "asr") this.notice = "";
  }

  #acknowledge({ job_id, received, stored }: Ack): void {
    if (this.state === "connecting" || this.state === "away") {
      // a connection begins: an utterance without a final is heard anew
      this.partials = [];
      this.#sent = this.#sample(received);
      this.#endSent = false;
      this.#attempts = 0;
      this.#begun = true;
      this.state = this.stopped ? "finishing" : "live";
    }
    this.jobId = job_id;
    this.#unstored.forget(this.#sample(stored));
  }

  /** Send what the server lacks, as far as the line takes it. */
  #pump(): void {
    const socket = this.#socket;
    if (socket === null || (this.state !== "live" && this.state !== "finishing") || this.#endSent) return;
    for (let piece = this.#unstored.from(this.#sent); piece !== null; piece = this.#unstored.from(this.#sent)) {
      if (socket.bufferedAmount > MAX_WAITING) return;
      socket.send(piece);
      this.#sent = Math.max(this.#sent, this.#unstored.start) + piece.length;
    }
    if (!this.stopped) return;
    this.#endSent = true;
    this.#say({ type: "end" });
  }

  #refuse({ code, message }: Failure): void {
    this.#disconnect();
    if (code === "flow_in_use" && !this.#begun) {
      // it was opened by a connection that was lost before it said so
      this.#begun = true;
      this.#retry();
    } else if (code === "flow_unknown" && this.#begun) this.#goOnElsewhere();
    else if (PASSING.has(code) || (code === "live_sessions_full" && this.#begun)) this.#retry();
    else this.#fail(code, message);
  }

  /** The session ended while the line was lost: what it lacks begins another one. */
  #goOnElsewhere(): void {
    if (this.stopped && this.#waiting === 0) return this.#finish();
    this.#flowId = newFlowId();
    this.#begun = false;
    this.#first = this.#unstored.start;
    this.#lastSeq = 0;
    // of the one before, only what was stored became final
    this.partials = [];
    this.#parts += 1;
    this.#retry();
  }

  #disconnect(): void {
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #lose(): void {
    this.#disconnect();
    this.#retry();
  }

  #retry(): void {
    if (this.#over) return;
    if (this.state !== "connecting") this.state = "away";
    const wait = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempts++);
    this.#timer = setTimeout(() => void this.#connect(), wait);
  }

  #fail(code: string, said: string): void {
    this.#close();
    this.error = explainCode(code, said);
    this.state = "failed";
  }

  #finish(): void {
    const id = this.jobId;
    this.leave();
    if (id === null) return;
    if (this.#parts > 1) toast(t("record.parts", { count: this.#parts }));
    const open = (): void => void navigate("/jobs/:id", { params: { id } });
    if (route.pathname === "/") open();
    else toast(t("record.done"), { action: { label: t("record.open"), run: open } });
  }
}

export type { Recording };

/** The one that goes on, if any. */
export const recorder = $state<{ current: Recording | null }>({ current: null });

export function record(microphone: Microphone, options: JobOptions): void {
  recorder.current = new Recording(microphone, options);
}

/** A session goes on after it has expired. Throws ApiError. */
async function makeToken(): Promise<string | null> {
  if (!session.signedIn) return null;
  const body = { scopes: ["live" as const] };
  return (await unwrap(api.POST("/v1/tokens", { body }))).token;
}

/** The recording's name until it has another one: no two of a tenant may be the same at once. */
function newFlowId(): string {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString();
  const [stamp = ""] = local.split(".");
  const random = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  return `${stamp.replace("T", "-").replaceAll(":", ".")}-${random.toString(36)}`;
}

/** A page that is left would take what the server lacks with it: the browser asks. */
function stay(event: BeforeUnloadEvent): void {
  event.preventDefault();
}
