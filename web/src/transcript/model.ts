/** A transcript as it is kept while events change it. Pure: nothing here knows of the network or of the page. */
import type { JobEvent, Segment, Transcript, components } from "longhand-client";

export type Speaker = components["schemas"]["SpeakerView"];
export type Turn = components["schemas"]["TurnView"];
export type Word = Segment["words"][number];
export type { Segment };

/** Segments by index, and in order of time. A change makes new arrays, and keeps the segments that it leaves alone. */
export class Model {
  #byIndex = new Map<number, Segment>();
  #ordered: readonly Segment[] | null = null;
  speakers: readonly Speaker[] = [];
  turns: readonly Turn[] = [];
  /** Labels that were merged, each with the number of the event that told of it. */
  #merged: { readonly seq: number; readonly label: string; readonly into: string }[] = [];

  static of(transcript: Transcript): Model {
    const model = new Model();
    for (const segment of transcript.segments) model.#byIndex.set(segment.index, segment);
    model.speakers = transcript.speakers;
    model.turns = transcript.turns;
    return model;
  }

  get segments(): readonly Segment[] {
    this.#ordered ??= [...this.#byIndex.values()].sort((a, b) => a.start - b.start || a.index - b.index);
    return this.#ordered;
  }

  get(index: number): Segment | undefined {
    return this.#byIndex.get(index);
  }

  /** Whether the event changed anything that is shown. An event that was applied before changes nothing. */
  apply(event: JobEvent): boolean {
    switch (event.type) {
      case "segment.draft":
        // a replayed draft must not come back beside the finals of its chunk
        if (this.#hasFinals(event.data.chunk)) return false;
        return this.put(segmentOf({ ...event.data, provisional: true }));
      case "segment.final":
        this.#removeWhere((each) => each.chunk === event.data.chunk && Boolean(each.provisional));
        return this.put(segmentOf(event.data));
      case "segment.corrected":
        return this.put(segmentOf(event.data));
      case "segments.replaced":
        return this.replace(event.data.removed, event.data.segments, event.seq);
      case "speakers.assigned":
        return this.#assign(event.data.speakers, event.data.segments);
      case "speakers.changed":
        return this.#changeSpeakers(event.data.speakers, event.data.merged, event.seq);
      case "job.completed":
        // what was drafted and dropped has no finals that take its place
        return this.#removeWhere((each) => Boolean(each.provisional));
      default:
        return false;
    }
  }

  /** Put a segment in its place, unless a newer version of it is there. */
  put(segment: Segment): boolean {
    const there = this.#byIndex.get(segment.index);
    if (there !== undefined && !there.provisional && versionOf(there) > versionOf(segment)) return false;
    // an answer to a change may come after the event of a later one
    this.#byIndex.set(segment.index, this.#merged.reduce(withMerged, segment));
    this.#ordered = null;
    return true;
  }

  /** Have segments stand where others were. `seq` is the number of the event: what is newer stays. */
  replace(removed: readonly number[], segments: readonly Segment[], seq: number): boolean {
    this.#removeWhere((each) => removed.includes(each.index) && versionOf(each) < seq);
    for (const segment of segments) this.put(segment);
    return true;
  }

  #assign(speakers: readonly Speaker[], segments: readonly Segment[]): boolean {
    const chunks = new Map<number, number>();
    for (const { chunk, version = 0 } of segments) chunks.set(chunk, version);
    // all parts of one assignment have the same version
    this.#removeWhere((each) => versionOf(each) < (chunks.get(each.chunk) ?? -1));
    for (const segment of segments) this.put(segment);
    this.speakers = speakers;
    return true;
  }

  #changeSpeakers(speakers: readonly Speaker[], merged: { label: string; into: string } | null, seq: number): boolean {
    this.speakers = speakers;
    if (merged !== null) {
      this.#merged.push({ seq, ...merged });
      for (const segment of this.#byIndex.values()) {
        this.#byIndex.set(segment.index, withMerged(segment, { seq, ...merged }));
      }
      this.turns = this.turns.map((turn) => (turn.speaker === merged.label ? { ...turn, speaker: merged.into } : turn));
      this.#ordered = null;
    }
    return true;
  }

  #hasFinals(chunk: number): boolean {
    for (const each of this.#byIndex.values()) if (each.chunk === chunk && !each.provisional) return true;
    return false;
  }

  /** Whether there was any. */
  #removeWhere(condition: (segment: Segment) => boolean): boolean {
    const found = [...this.#byIndex.values()].filter(condition);
    for (const { index } of found) this.#byIndex.delete(index);
    if (found.length > 0) this.#ordered = null;
    return found.length > 0;
  }
}

/** A segment from before two labels became one, with that one. */
function withMerged(segment: Segment, { seq, label, into }: { seq: number; label: string; into: string }): Segment {
  return segment.speaker === label && versionOf(segment) < seq ? { ...segment, speaker: into } : segment;
}

/** A segment of an event, without what the event says of itself. */
function segmentOf(data: Segment): Segment {
  const { job_id: _job, seq: _seq, at: _at, ...segment } = data as Segment & Record<"job_id" | "seq" | "at", unknown>;
  return segment;
}

export const versionOf = ({ version = 0 }: Segment): number => version;

/** The place of the last element whose key is at most `value`; -1 if there is none. Keys are in order. */
export function lastAtMost<T>(list: readonly T[], value: number, key: (item: T) => number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (key(list[middle] as T) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The place of the segment that is being spoken, or was last. */
export const segmentAt = (segments: readonly Segment[], seconds: number): number =>
  lastAtMost(segments, seconds + 0.01, ({ start }) => start);

/** The place of the word that is being spoken, or was last; -1 before the first. */
export const wordAt = ({ words }: Segment, seconds: number): number =>
  lastAtMost(words, seconds + 0.01, ({ start }) => start);

/** Everybody who speaks, in the order of the labels: also those whom people only typed in. */
export function speakersOf(speakers: readonly Speaker[], segments: readonly Segment[]): Speaker[] {
  const found = new Map(speakers.map((speaker) => [speaker.label, speaker]));
  for (const { speaker } of segments) {
    if (speaker !== null && !found.has(speaker)) {
      found.set(speaker, { label: speaker, name: null, voice_id: null, score: null });
    }
  }
  return [...found.values()];
}
