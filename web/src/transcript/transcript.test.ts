import { describe, expect, test } from "vitest";
import type { JobEvent, Segment } from "longhand-client";
import { mergeTexts } from "./diff.js";
import { enqueue, History, inverse, resolve, withWaiting, type Operation, type Waiting } from "./edits.js";
import { Model, segmentAt, speakersOf, wordAt } from "./model.js";
import { findAll } from "./search.js";
import { asText, paragraphs } from "./text.js";
import { bars, speakerAt } from "./waveform.js";
import { nextDoubtful, pieces, wordsBefore } from "./words.js";

/** A word a second; `confidence` of all of them. */
function segment(index: number, text: string, more: Partial<Segment> & { sure?: number } = {}): Segment {
  const { sure = 0.9, start = index * 10, ...rest } = more;
  const words = text.split(" ").map((word, place) => ({
    text: word, start: start + place, end: start + place + 0.8, confidence: sure, glued: false,
  }));
  return {
    index, chunk: Math.floor(index / 100), start, end: start + words.length, text, speaker: "SPEAKER_00", language: "en",
    confidence: sure, source: "refined", version: 0, provisional: false, words, ...rest,
  };
}

let last = 0;
const event = (type: JobEvent["type"], data: object, seq = ++last): JobEvent =>
  ({ type, seq, data: { job_id: "x", seq, at: "", ...data } }) as JobEvent;

const modelOf = (...segments: Segment[]): Model =>
  Model.of({ job_id: "x", status: "processing", language: "en", duration: 60, speakers: [], turns: [], segments });
const texts = (model: Model): string[] => model.segments.map(({ text }) => text);

describe("events change a transcript", () => {
  test("finals take the place of the drafts of their chunk, and none of them comes back", () => {
    const model = modelOf();
    const drafts = [segment(0, "we mat"), segment(1, "on monday"), segment(100, "later")];
    for (const each of drafts) model.apply(event("segment.draft", each));
    expect(model.segments.every(({ provisional }) => provisional)).toBe(true);
    model.apply(event("segment.final", segment(0, "We met on Monday.")));
    expect(texts(model)).toEqual(["We met on Monday.", "later"]);
    model.apply(event("segment.draft", segment(1, "on monday")));
    expect(texts(model)).toEqual(["We met on Monday.", "later"]);
  });

  test("segments that nothing happened to stay the same objects", () => {
    const model = modelOf(segment(0, "one"), segment(1, "two"));
    const [first] = model.segments;
    model.apply(event("segment.corrected", segment(1, "Two.", { version: 5 })));
    expect(model.segments[0]).toBe(first);
    expect(texts(model)).toEqual(["one", "Two."]);
  });

  test("what was applied before changes nothing", () => {
    const model = modelOf(segment(0, "newest", { version: 9 }));
    expect(model.apply(event("segment.corrected", segment(0, "older", { version: 5 })))).toBe(false);
    model.apply(event("segments.replaced", { removed: [0], segments: [segment(1, "half", { version: 6 })] }, 6));
    expect(texts(model)).toEqual(["newest", "half"]);
  });

  test("a draft that was dropped goes when all is final", () => {
    const model = modelOf(segment(0, "final"));
    model.apply(event("segment.draft", segment(100, "made up")));
    model.apply(event("job.completed", {}));
    expect(texts(model)).toEqual(["final"]);
  });

  test("an answer that comes after two labels became one has that one", () => {
    const model = modelOf(segment(0, "one", { speaker: "A" }));
    model.apply(event("speakers.changed", { speakers: [], merged: { label: "A", into: "B" } }, 7));
    model.put(segment(0, "corrected before", { speaker: "A", version: 6 }));
    expect(model.segments[0]).toMatchObject({ text: "corrected before", speaker: "B" });
    model.put(segment(0, "given to A since", { speaker: "A", version: 8 }));
    expect(model.segments[0]).toMatchObject({ speaker: "A" });
  });

  test("speakers may be assigned in several parts", () => {
    const model = modelOf(segment(0, "I came he went"), segment(100, "untouched"));
    const speakers = [{ label: "A", name: null, voice_id: null, score: null }];
    const part = (...segments: Segment[]): JobEvent => event("speakers.assigned", { speakers, segments });
    model.apply(part(segment(0, "I came", { version: 7 })));
    model.apply(part(segment(1, "he went", { version: 7, speaker: "B" })));
    expect(texts(model)).toEqual(["I came", "he went", "untouched"]);
    expect(speakersOf(model.speakers, model.segments).map(({ label }) => label)).toEqual(["A", "SPEAKER_00", "B"]);
  });

  test("merged speakers are one", () => {
    const model = modelOf(segment(0, "one"), segment(1, "two", { speaker: "B" }));
    model.turns = [{ start: 0, end: 1, speaker: "B" }];
    model.apply(event("speakers.changed", { speakers: [], merged: { label: "B", into: "SPEAKER_00" } }));
    expect(new Set([...model.segments, ...model.turns].map(({ speaker }) => speaker))).toEqual(new Set(["SPEAKER_00"]));
  });

  test("times lead to segments and words", () => {
    const { segments } = modelOf(segment(0, "one two three"), segment(1, "four"));
    expect([-1, 0, 2.5, 9, 10].map((seconds) => segmentAt(segments, seconds))).toEqual([-1, 0, 0, 0, 1]);
    expect(wordAt(segments[0] as Segment, 1.2)).toBe(1);
  });
});

describe("two people change a text", () => {
  test.each([
    ["we met on monday", "We met on monday", "we met on Monday", "We met on Monday"],
    ["a b c", "a x b c", "a b c y", "a x b c y"],
    ["a b c", "a c", "a b c d", "a c d"],
    ["a b", "a B", "a B", "a B"],
    ["a b", "a b", "a c", "a c"],
  ])("%s: %s and %s are %s", (base, mine, theirs, both) => {
    expect(mergeTexts(base, mine, theirs)).toBe(both);
    expect(mergeTexts(base, theirs, mine)).toBe(both);
  });

  test("the same words in different ways is for a person to decide", () => {
    expect(mergeTexts("we met on monday", "we met on Tuesday", "we met on Sunday")).toBeNull();
    const operation: Operation = { kind: "text", index: 0, text: "a X", base: "a b" };
    const theirs = segment(0, "a Y", { version: 4 });
    expect(resolve(operation, theirs)).toEqual({ kind: "conflict", mine: "a X", theirs });
    expect(resolve(operation, segment(0, "A b", { version: 4 }))).toEqual({
      kind: "again", operation: { ...operation, text: "A X", base: "A b" }, version: 4,
    });
    expect(resolve(operation, segment(0, "a X")).kind).toBe("done");
  });
});

describe("edits", () => {
  const waiting = (id: string, operation: Operation): Waiting => ({ id, operation, version: 0 });
  const typed = (id: string, text: string, base: string): Waiting => waiting(id, { kind: "text", index: 0, text, base });

  test("a text that nobody has sent is replaced by the next one", () => {
    const queue = enqueue([typed("1", "b", "a")], typed("2", "c", "b"), null);
    expect(queue).toEqual([typed("1", "c", "a")]);
    expect(enqueue([typed("1", "b", "a")], typed("2", "c", "b"), "1")).toHaveLength(2);
  });

  test("what waits is seen at once", () => {
    const shown = withWaiting(segment(0, "a"), [typed("1", "b", "a"), waiting("2", { kind: "speaker", index: 0, speaker: "B" })]);
    expect([shown.text, shown.speaker]).toEqual(["b", "B"]);
  });

  test("each is undone", () => {
    const machine = segment(0, "a b");
    const human = segment(0, "A b", { source: "human" });
    const text: Operation = { kind: "text", index: 0, text: "A b", base: "a b" };
    expect(inverse(text, [machine], [human])).toEqual([{ kind: "revert", index: 0, undoes: { text: "a b", base: "A b" } }]);
    expect(inverse(text, [human], [segment(0, "A B")])).toEqual([{ kind: "text", index: 0, text: "A b", base: "A B" }]);
    const split: Operation = { kind: "split", index: 0, at: 1 };
    expect(inverse(split, [machine], [segment(0, "a"), segment(2, "b")])).toEqual([{ kind: "merge", index: 0, next: 2 }]);
    const merge: Operation = { kind: "merge", index: 0, next: 2 };
    expect(inverse(merge, [segment(0, "a"), segment(2, "b", { speaker: "B" })], [segment(0, "a b")])).toEqual([
      { kind: "split", index: 0, at: 1 }, { kind: "speaker", index: 2, speaker: "B" },
    ]);
  });

  test("the history follows segments that come back under other numbers", () => {
    const history = new History();
    history.did({ kind: "merge", index: 0, next: 2 }, [{ kind: "split", index: 0, at: 1 }]);
    history.did({ kind: "speaker", index: 2, speaker: "B" }, [{ kind: "speaker", index: 2, speaker: "A" }]);
    history.renumber(2, 5);
    expect(history.takeUndo()?.undo).toEqual([{ kind: "speaker", index: 5, speaker: "A" }]);
    expect(history.takeUndo()?.redo).toEqual([{ kind: "merge", index: 0, next: 5 }]);
    expect([history.canUndo, history.canRedo]).toEqual([false, true]);
  });
});

describe("words", () => {
  test("a caret divides between words", () => {
    const whole = segment(0, "We met on Monday.");
    expect([0, 1, 2, 3, 6, 7, 17].map((offset) => wordsBefore(whole, offset))).toEqual([0, 1, 1, 1, 2, 2, 4]);
  });

  test("Chinese has no spaces", () => {
    const words = [..."我们走"].map((text, at) => ({ text, start: at, end: at + 1, confidence: 1, glued: false }));
    const chinese = segment(0, "", { text: "我们走", words });
    expect(pieces(chinese).map(({ space }) => space)).toEqual([false, false, false]);
    expect(wordsBefore(chinese, 2)).toBe(2);
  });

  test("doubtful words are gone through, round the end, but for what a person has checked", () => {
    const list = [segment(0, "a b", { sure: 0.2, source: "human" }), segment(1, "c d", { sure: 0.3 })];
    expect(nextDoubtful(list, { segment: 0, word: -1 }, 0.6)).toEqual({ segment: 1, word: 0 });
    expect(nextDoubtful(list, { segment: 1, word: 0 }, 0.6)).toEqual({ segment: 1, word: 1 });
    expect(nextDoubtful(list, { segment: 1, word: 1 }, 0.6)).toEqual({ segment: 1, word: 0 });
    expect(nextDoubtful([], { segment: 0, word: 0 }, 0.6)).toBeNull();
  });

  test("search knows neither case nor accents, and runs over words", () => {
    const list = [segment(0, "Zoë met us"), segment(1, "zoe METUS")];
    expect(findAll(list, "zoe")).toEqual([{ segment: 0, first: 0, last: 0 }, { segment: 1, first: 0, last: 0 }]);
    expect(findAll(list, "met  us")).toEqual([{ segment: 0, first: 1, last: 2 }]);
    expect(findAll(list, " ")).toEqual([]);
  });
});

describe("what is drawn and copied", () => {
  test("bars have the colour of who speaks, and the height of the loudest", () => {
    const turns = [{ start: 0, end: 5, speaker: "A" }];
    const drawn = bars([0, 255, 10, 10], 10, 6, turns);
    expect(drawn.map(({ height, speaker }) => [height, speaker])).toEqual([[1, "A"], [0.04, null]]);
    expect(speakerAt(turns, 7)).toBeNull();
  });

  test("paragraphs are what one person says", () => {
    const list = [segment(0, "One.", { start: 0 }), segment(1, "Two.", { start: 1 }), segment(2, "Three.", { start: 9 })];
    const found = paragraphs(list, () => "Ada");
    const clock = (seconds: number): string => `0:0${seconds}`;
    expect(asText(found, { times: true, speakers: true, clock })).toBe("[0:00] Ada: One. Two.\n\n[0:09] Ada: Three.");
    expect(asText(found, { times: false, speakers: false, clock })).toBe("One. Two.\n\nThree.");
  });
});
