import { describe, expect, test } from "vitest";
import { liveUrl } from "./address.js";
import { Unstored } from "./unstored.js";

describe("where live sessions are", () => {
  test.each([
    [null, "https://longhand.example/", "wss://longhand.example/ws/stream"],
    [null, "http://127.0.0.1:8000/jobs/1?t=2", "ws://127.0.0.1:8000/ws/stream"],
    ["wss://live.example/", "https://longhand.example/", "wss://live.example/ws/stream"],
    ["ws://127.0.0.1:8001", "http://localhost:8000/", "ws://127.0.0.1:8001/ws/stream"],
    // of the server's machine, told to a page that came through a proxy
    ["ws://127.0.0.1:8001", "https://longhand.example/", "wss://longhand.example/ws/stream"],
  ])("%s, from %s", (told, page, url) => expect(liveUrl(told, new URL(page))).toBe(url));
});

describe("what is not stored", () => {
  /** Samples that say where they are. */
  const made = (): Unstored => {
    const unstored = new Unstored();
    for (const start of [0, 3, 6]) unstored.add(Int16Array.of(start, start + 1, start + 2));
    return unstored;
  };

  /** All that is kept from a sample on. */
  const rest = (unstored: Unstored, sample: number): number[] => {
    const all: number[] = [];
    for (let piece = unstored.from(sample); piece !== null; piece = unstored.from(sample)) {
      all.push(...piece);
      sample = Math.max(sample, unstored.start) + piece.length;
    }
    return all;
  };

  test("is sent from any sample on", () => {
    for (let sample = 0; sample <= 9; sample++) {
      expect(rest(made(), sample)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8].slice(sample));
    }
  });

  test("is forgotten up to any sample", () => {
    for (let sample = 0; sample <= 9; sample++) {
      const unstored = made();
      unstored.forget(sample);
      expect([unstored.start, unstored.end]).toEqual([sample, 9]);
      expect(rest(unstored, 0)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8].slice(sample));
    }
  });

  test("never is more than was added", () => {
    const unstored = made();
    unstored.forget(100);
    expect([unstored.start, unstored.end, unstored.from(0)]).toEqual([9, 9, null]);
    unstored.add(Int16Array.of(9));
    expect(rest(unstored, 9)).toEqual([9]);
  });
});
