/** What people do to a transcript: operations, how each is undone, and those that wait to be sent. Pure. */
import { mergeTexts } from "./diff.js";
import type { Segment } from "./model.js";

/** `base` is the text that was changed, by which changes of others at the same time are merged. A `revert` that undoes
 * a change says from which text it leads back to which: a part of that may be a person's. */
export type Operation =
  | { readonly kind: "text"; readonly index: number; readonly text: string; readonly base: string }
  | { readonly kind: "revert"; readonly index: number; readonly undoes?: { readonly text: string; readonly base: string } }
  | { readonly kind: "speaker"; readonly index: number; readonly speaker: string }
  | { readonly kind: "split"; readonly index: number; readonly at: number }
  | { readonly kind: "merge"; readonly index: number; readonly next: number };

/** An operation that waits to be sent, with the version of the segment that it was made to. */
export interface Waiting {
  readonly id: string;
  readonly operation: Operation;
  readonly version: number;
}

/** The text of a segment with all that waits for it: what its editor sees at once. */
export function withWaiting(segment: Segment, waiting: readonly Waiting[]): Segment {
  let shown = segment;
  for (const { operation } of waiting) {
    if (operation.index !== segment.index) continue;
    if (operation.kind === "speaker") shown = { ...shown, speaker: operation.speaker };
    if (operation.kind === "text") shown = { ...shown, text: operation.text, words: [], source: "human" };
  }
  return shown;
}

/** Add a change of a text to those that wait: it takes the place of one of the same segment that nobody has sent. */
export function enqueue(queue: readonly Waiting[], added: Waiting, sending: string | null): Waiting[] {
  const last = queue.at(-1);
  const { operation } = added;
  if (
    last !== undefined &&
    last.id !== sending &&
    operation.kind === "text" &&
    last.operation.kind === "text" &&
    last.operation.index === operation.index
  ) {
    return [...queue.slice(0, -1), { ...last, operation: { ...operation, base: last.operation.base } }];
  }
  return [...queue, added];
}

export type Resolution =
  /** Send it again, to the segment as it is now. */
  | { readonly kind: "again"; readonly operation: Operation; readonly version: number }
  /** Nothing is left to be done. */
  | { readonly kind: "done" }
  /** Both changed the same words: a person decides. */
  | { readonly kind: "conflict"; readonly mine: string; readonly theirs: Segment };

/** What becomes of an operation whose segment somebody else has changed. Nothing that was typed is lost. */
export function resolve(operation: Operation, now: Segment): Resolution {
  const version = now.version ?? 0;
  switch (operation.kind) {
    case "text": {
      if (operation.text === now.text) return { kind: "done" };
      const merged = mergeTexts(operation.base, operation.text, now.text);
      if (merged === null) return { kind: "conflict", mine: operation.text, theirs: now };
      if (merged === now.text) return { kind: "done" };
      return { kind: "again", operation: { ...operation, text: merged, base: now.text }, version };
    }
    case "speaker":
      return { kind: "again", operation, version };
    case "split":
    case "merge":
    case "revert":
      // made to a text that is no more: to be done anew by who sees what there is now
      return { kind: "done" };
  }
}

/** What was done, and what undoes it. */
export interface Done {
  readonly undo: readonly Operation[];
  readonly redo: readonly Operation[];
}

/** How an operation is undone. `before` is the segment as it was, `after` what the server answered. */
export function inverse(operation: Operation, before: readonly Segment[], after: readonly Segment[]): Operation[] {
  const [was, wasNext] = before;
  const [is, isNext] = after;
  if (was === undefined || is === undefined) return [];
  switch (operation.kind) {
    case "text": {
      const back = { text: was.text, base: is.text };
      // what the models wrote comes back with its own times
      if (was.source !== "human") return [{ kind: "revert", index: was.index, undoes: back }];
      return [{ kind: "text", index: was.index, ...back }];
    }
    case "revert":
      return [{ kind: "text", index: was.index, text: was.text, base: is.text }];
    case "speaker":
      return was.speaker === null ? [] : [{ kind: "speaker", index: was.index, speaker: was.speaker }];
    case "split":
      return isNext === undefined ? [] : [{ kind: "merge", index: is.index, next: isNext.index }];
    case "merge": {
      if (wasNext === undefined || was.words.length === 0 || wasNext.words.length === 0) return [];
      const split: Operation = { kind: "split", index: was.index, at: was.words.length };
      if (wasNext.speaker === null || wasNext.speaker === is.speaker) return [split];
      return [split, { kind: "speaker", index: wasNext.index, speaker: wasNext.speaker }];
    }
  }
}

/** A stack of what was done. Segments that come back by an undo have new numbers: `renumber` follows them. */
export class History {
  #done: Done[] = [];
  #undone: Done[] = [];

  get canUndo(): boolean {
    return this.#done.length > 0;
  }
  get canRedo(): boolean {
    return this.#undone.length > 0;
  }

  did(operation: Operation, undo: readonly Operation[]): void {
    this.#undone = [];
    if (undo.length > 0) this.#done.push({ undo, redo: [operation] });
  }
  takeUndo(): Done | undefined {
    return this.#move(this.#done, this.#undone);
  }
  takeRedo(): Done | undefined {
    return this.#move(this.#undone, this.#done);
  }
  renumber(from: number, to: number): void {
    if (from === to) return;
    const change = (operation: Operation): Operation => {
      const index = operation.index === from ? to : operation.index;
      if (operation.kind !== "merge") return { ...operation, index };
      return { ...operation, index, next: operation.next === from ? to : operation.next };
    };
    const all = ({ undo, redo }: Done): Done => ({ undo: undo.map(change), redo: redo.map(change) });
    this.#done = this.#done.map(all);
    this.#undone = this.#undone.map(all);
  }

  #move(from: Done[], to: Done[]): Done | undefined {
    const last = from.pop();
    if (last !== undefined) to.push(last);
    return last;
  }
}
