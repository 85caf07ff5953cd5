/** The recording as it is played. */
import { api, session, unwrap } from "../api/index.svelte.js";
import { keep, kept } from "../kept.js";

const RATE = "longhand.rate";
export const RATES = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3] as const;

/** A token is renewed so long before it expires. */
const MARGIN_MS = 60_000;

export class Player {
  playing = $state(false);
  /** Seconds; set several times a second while it plays. */
  time = $state(0);
  duration = $state(0);
  rate = $state<number>(RATES.find((rate) => rate === Number(kept(RATE))) ?? 1);
  /** Whether the recording cannot be played. */
  failed = $state(false);
  /** Called on every frame while it plays, and on every jump. */
  onTime: (seconds: number) => void = () => {};

  readonly #audio = new Audio();
  readonly #jobId: string;
  #expires = Number.POSITIVE_INFINITY;
  #attempts = 0;
  #frame = 0;
  #closed = false;

  constructor(jobId: string) {
    this.#jobId = jobId;
    const audio = this.#audio;
    audio.preload = "metadata";
    audio.addEventListener("play", () => {
      this.playing = true;
      this.#tick();
    });
    audio.addEventListener("pause", () => (this.playing = false));
    audio.addEventListener("ended", () => (this.playing = false));
    audio.addEventListener("seeked", () => this.#tell());
    audio.addEventListener("durationchange", () => {
      if (Number.isFinite(audio.duration)) this.duration = audio.duration;
    });
    audio.addEventListener("canplay", () => {
      this.failed = false;
      this.#attempts = 0;
    });
    audio.addEventListener("error", () => void this.#recover());
  }

  /** Find out where the recording is. */
  async open(at = 0): Promise<void> {
    const path = `/v1/jobs/${encodeURIComponent(this.#jobId)}/audio?playable=true`;
    const token = session.signedIn ? await this.#token() : null;
    const wasPlaying = this.playing;
    this.#audio.src = token === null ? path : `${path}&token=${encodeURIComponent(token)}`;
    this.#audio.defaultPlaybackRate = this.rate;
    this.#audio.playbackRate = this.rate;
    if (at > 0) this.#audio.currentTime = at;
    if (wasPlaying) void this.play();
  }

  async #token(): Promise<string | null> {
    try {
      const made = await unwrap(api.POST("/v1/tokens", { body: { scopes: ["jobs:read"], job_id: this.#jobId } }));
      this.#expires = Date.parse(made.expires_at) - MARGIN_MS;
      return made.token;
    } catch {
      return null;
    }
  }

  /** The URL has expired, or the server was away. */
  async #recover(): Promise<void> {
    if (this.#closed) return;
    this.failed = true;
    if (this.#attempts >= 5) return;
    this.#attempts += 1;
    await new Promise((done) => setTimeout(done, 400 * 2 ** this.#attempts));
    if (!this.#closed) await this.open(this.time);
  }

  async play(from?: number): Promise<void> {
    if (Date.now() > this.#expires) await this.open(from ?? this.time);
    if (from !== undefined) this.seek(from);
    try {
      await this.#audio.play();
    } catch {
      // interrupted by a pause or another jump, or told by the event `error`
    }
  }

  pause(): void {
    this.#audio.pause();
  }

  toggle(): void {
    if (this.playing) this.pause();
    else void this.play();
  }

  seek(seconds: number): void {
    const end = this.duration || seconds;
    this.#audio.currentTime = Math.min(Math.max(seconds, 0), end);
    this.#tell();
  }

  skip(seconds: number): void {
    this.seek(this.#audio.currentTime + seconds);
  }

  setRate(rate: number): void {
    this.rate = rate;
    this.#audio.playbackRate = rate;
    this.#audio.defaultPlaybackRate = rate;
    keep(RATE, String(rate));
  }

  close(): void {
    this.#closed = true;
    cancelAnimationFrame(this.#frame);
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    this.#audio.load();
  }

  #tick = (): void => {
    cancelAnimationFrame(this.#frame);
    this.#tell();
    if (!this.#audio.paused) this.#frame = requestAnimationFrame(this.#tick);
  };

  #tell(): void {
    this.time = this.#audio.currentTime;
    this.onTime(this.time);
  }
}
