/** Sound that the server has not stored yet, to be sent again where a connection was lost. */
export class Unstored {
  #pieces: Int16Array<ArrayBuffer>[] = [];
  #start = 0;
  #end = 0;

  /** The first sample that is kept, counted from the beginning of all that was added. */
  get start(): number {
    return this.#start;
  }

  /** The sample behind the last one. */
  get end(): number {
    return this.#end;
  }

  add(pcm: Int16Array<ArrayBuffer>): void {
    this.#pieces.push(pcm);
    this.#end += pcm.length;
  }

  /** Forget what lies before a sample. */
  forget(before: number): void {
    for (let piece = this.#pieces[0]; piece !== undefined && this.#start < before; piece = this.#pieces[0]) {
      const gone = Math.min(piece.length, before - this.#start);
      if (gone < piece.length) this.#pieces[0] = piece.subarray(gone);
      else this.#pieces.shift();
      this.#start += gone;
    }
  }

  /** What is kept from a sample on, a piece at a time; null where that is nothing. */
  from(sample: number): Int16Array<ArrayBuffer> | null {
    let start = this.#start;
    for (const piece of this.#pieces) {
      if (sample < start + piece.length) return piece.subarray(Math.max(0, sample - start));
      start += piece.length;
    }
    return null;
  }
}
