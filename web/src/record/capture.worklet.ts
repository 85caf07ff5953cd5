/** In the browser's audio thread: what a microphone hears as PCM of 16 bits, a tenth of a second at a time. */

declare const sampleRate: number;
declare abstract class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

/** Samples. */
const PIECE = Math.round(sampleRate / 10);

class Capture extends AudioWorkletProcessor {
  #piece = new Int16Array(PIECE);
  #filled = 0;

  process([input]: Float32Array[][]): boolean {
    // one channel: that is what was asked of the microphone
    for (const sample of input?.[0] ?? []) {
      this.#piece[this.#filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      if (this.#filled < PIECE) continue;
      this.port.postMessage(this.#piece, [this.#piece.buffer]);
      this.#piece = new Int16Array(PIECE);
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
