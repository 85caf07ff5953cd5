import { expect, test } from "vitest";
import { pieces } from "./marks.js";

test("a text is divided at what was found", () => {
  expect(pieces("The budget, again.", [[4, 10]])).toEqual([
    { text: "The ", found: false },
    { text: "budget", found: true },
    { text: ", again.", found: false },
  ]);
  expect(pieces("all", [[0, 3]])).toEqual([{ text: "all", found: true }]);
  expect(pieces("none", [])).toEqual([{ text: "none", found: false }]);
});

test("characters count, whatever they take in memory", () => {
  expect(pieces("𝕏𝕏 word 会议", [[3, 7], [8, 10]]).filter(({ found }) => found).map(({ text }) => text)).toEqual(["word", "会议"]);
});
