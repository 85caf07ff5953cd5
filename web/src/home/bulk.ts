/** The same with many recordings, in one request. */
import { api, ApiError, unwrap, type components } from "../api/index.svelte.js";

type Schemas = components["schemas"];
type Wanted = Pick<Schemas["BulkRequest"], "action"> & { tags?: string[]; collection?: string };
export type Result = Schemas["BulkResult"];

const MOST = 1000;

/** What became of each. Throws where a whole request is refused. */
export async function results(wanted: Wanted, ids: readonly string[], keepalive = false): Promise<Result[]> {
  const found: Result[] = [];
  for (let from = 0; from < ids.length; from += MOST) {
    const body = { tags: [], ...wanted, jobs: ids.slice(from, from + MOST) };
    found.push(...(await unwrap(api.POST("/v1/jobs/bulk", { body, keepalive }))).results);
  }
  return found;
}

/** The same, throwing what the first that failed has failed with: those that are gone do not count. */
export async function bulk(wanted: Wanted, ids: readonly string[]): Promise<void> {
  const failed = failures(await results(wanted, ids))[0];
  if (failed !== undefined) throw problemOf(failed);
}

export const failures = (all: readonly Result[]): Result[] =>
  all.filter(({ error }) => error !== null && error.code !== "job_not_found");

export const problemOf = ({ error }: Result): ApiError =>
  new ApiError(409, error?.code ?? "unknown", "Not done", error?.message ?? "");
