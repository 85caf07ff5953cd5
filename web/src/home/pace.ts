/** How fast jobs get on, to say when they will be done. */
import type { Job } from "longhand-client";

const LEAST_PERCENT = 4;

interface Mark {
  at: number;
  percent: number;
}

export class Pace {
  /** How each job stood when it was first seen, and when it last got on. */
  readonly #seen = new Map<string, { first: Mark; last: Mark }>();

  /** Take note of how jobs stand now. */
  see(jobs: readonly Job[], now = Date.now()): void {
    for (const { id, status, progress } of jobs) {
      const mark = { at: now, percent: progress.percent };
      const seen = this.#seen.get(id);
      if (status !== "processing") this.#seen.delete(id);
      else if (seen === undefined) this.#seen.set(id, { first: mark, last: mark });
      else if (seen.last.percent !== mark.percent) seen.last = mark;
    }
  }

  /** Seconds until the job is done, at the pace of what was seen of it; null as long as that says nothing. */
  left({ id, started_at }: Job, now = Date.now()): number | null {
    const seen = this.#seen.get(id);
    if (seen === undefined || started_at === null || seen.last.percent < LEAST_PERCENT) return null;
    const { first, last } = seen;
    // what was seen here tells more than the whole, once it is enough: others may have been in front of it
    const since = last.percent - first.percent >= LEAST_PERCENT ? first : { at: Date.parse(started_at), percent: 0 };
    const pace = (last.percent - since.percent) / (last.at - since.at);
    const left = (100 - last.percent) / pace - (now - last.at);
    return pace > 0 && left > 0 ? left / 1000 : null;
  }
}
