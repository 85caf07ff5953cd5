/** How fast jobs get on, to say when they will be done. */
import type { Job } from "longhand-client";

const LEAST_PERCENT = 4;

export class Pace {
  readonly #seen = new Map<string, { at: number; percent: number }>();

  /** Take note of how jobs stand now. */
  see(jobs: readonly Job[], now = Date.now()): void {
    for (const { id, status, progress } of jobs) {
      if (status !== "processing") this.#seen.delete(id);
      else if (!this.#seen.has(id)) this.#seen.set(id, { at: now, percent: progress.percent });
    }
  }

  /** Seconds until the job is done, at the pace of what was seen of it; null as long as that says nothing. */
  left({ id, status, started_at, progress: { percent } }: Job, now = Date.now()): number | null {
    if (status !== "processing" || started_at === null || percent < LEAST_PERCENT) return null;
    const first = this.#seen.get(id);
    // what was seen here tells more than the whole, once it is enough: others may have been in front of it
    const since = first && percent - first.percent >= LEAST_PERCENT ? first : { at: Date.parse(started_at), percent: 0 };
    const pace = (percent - since.percent) / (now - since.at);
    return pace > 0 ? (100 - percent) / pace / 1000 : null;
  }
}
