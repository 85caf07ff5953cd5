/** A microphone: what it hears, how loud that is, and which others there are. */
import { keep, kept } from "../kept.js";
import worklet from "./capture.worklet.ts?worker&url";

export type Pcm = Int16Array<ArrayBuffer>;

const KEPT = "longhand.microphone";
/** What models hear: asked for, so that the browser resamples, and does it well. */
const RATE = 16_000;
/** Below full scale, where the meter begins. */
const FLOOR_DB = 60;

/** Recognisers hear better what nothing was taken from: see docs/live.md. */
const SOUND = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true } as const;

export class Microphone {
  /** Those that may be chosen. */
  devices = $state.raw<readonly MediaDeviceInfo[]>([]);
  /** The id of the one in use. */
  device = $state("");
  /** How loud it is, from 0 to 1. */
  level = $state(0);
  /** Takes each tenth of a second. */
  onPiece: ((pcm: Pcm) => void) | null = null;
  /** Told when it was unplugged, or the browser took it away. */
  onLost: (() => void) | null = null;

  #stream: MediaStream;
  #context: AudioContext;
  #source: MediaStreamAudioSourceNode;
  #capture: AudioWorkletNode | null = null;

  private constructor(stream: MediaStream) {
    this.#stream = stream;
    [this.#context, this.#source] = listen(stream);
  }

  /** The one that was used last, or what the browser takes. Throws DOMException: `explainMicrophone` has words for it. */
  static async open(): Promise<Microphone> {
    const microphone = new Microphone(await ask(kept(KEPT) ?? ""));
    try {
      await microphone.#start();
    } catch (error) {
      microphone.close();
      throw error;
    }
    return microphone;
  }

  /** Hertz. */
  get sampleRate(): number {
    return this.#context.sampleRate;
  }

  async #start(): Promise<void> {
    await this.#context.audioWorklet.addModule(worklet);
    await this.#context.resume();
    this.#capture = new AudioWorkletNode(this.#context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    this.#capture.port.onmessage = ({ data }: MessageEvent<Pcm>) => this.#hear(data);
    this.#source.connect(this.#capture);
    navigator.mediaDevices.addEventListener("devicechange", this.#look);
    await this.#look();
    this.#follow();
  }

  /** Go on with another one. Throws DOMException, and stays with the one before. */
  async use(device: string): Promise<void> {
    const stream = await ask(device);
    const source = this.#context.createMediaStreamSource(stream);
    this.#source.disconnect();
    silence(this.#stream);
    [this.#stream, this.#source] = [stream, source];
    if (this.#capture !== null) source.connect(this.#capture);
    keep(KEPT, device);
    this.#follow();
  }

  close(): void {
    navigator.mediaDevices.removeEventListener("devicechange", this.#look);
    this.onPiece = this.onLost = null;
    silence(this.#stream);
    if (this.#context.state !== "closed") void this.#context.close();
  }

  #look = async (): Promise<void> => {
    const all = await navigator.mediaDevices.enumerateDevices();
    this.devices = all.filter(({ kind }) => kind === "audioinput");
  };

  /** Take note of the track in use. */
  #follow(): void {
    const track = this.#stream.getAudioTracks()[0];
    this.device = track?.getSettings().deviceId ?? "";
    track?.addEventListener("ended", () => {
      this.level = 0;
      this.onLost?.();
    });
  }

  #hear(pcm: Pcm): void {
    const peak = pcm.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1) / 32768;
    this.level = Math.max(0, 1 + (20 * Math.log10(peak)) / FLOOR_DB);
    this.onPiece?.(pcm);
  }
}

async function ask(device: string): Promise<MediaStream> {
  // pages that came neither by HTTPS nor from this machine have no such thing
  if (!("mediaDevices" in navigator)) throw new DOMException("insecure", "SecurityError");
  return navigator.mediaDevices.getUserMedia({ audio: { ...SOUND, ...(device && { deviceId: device }) } });
}

function listen(stream: MediaStream): [AudioContext, MediaStreamAudioSourceNode] {
  const context = new AudioContext({ sampleRate: RATE });
  try {
    return [context, context.createMediaStreamSource(stream)];
  } catch {
    // Firefox connects no microphone of another rate; then the server resamples
    void context.close();
    const own = new AudioContext();
    return [own, own.createMediaStreamSource(stream)];
  }
}

/** Without `ended`: that is for what nobody here wanted. */
function silence(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop();
}

const WORDS = {
  SecurityError: "record.errors.insecure",
  NotAllowedError: "record.errors.denied",
  NotFoundError: "record.errors.none",
  OverconstrainedError: "record.errors.none",
  NotReadableError: "record.errors.taken",
} as const;

/** The message for what `open` and `use` throw. */
export function explainMicrophone(error: unknown): (typeof WORDS)[keyof typeof WORDS] | "record.errors.other" {
  const name = error instanceof DOMException ? error.name : "";
  return name in WORDS ? WORDS[name as keyof typeof WORDS] : "record.errors.other";
}
