import type { components } from "./schema.js";

/** A problem document (RFC 9457). */
export type Problem = components["schemas"]["Problem"];

/** The server answered with an error. `code` is stable; docs/api.md lists all. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: number,
    readonly code: string,
    readonly title: string,
    readonly detail: string,
    /** Seconds after which the server may be asked again, where it says so. */
    readonly retryAfter?: number,
    /** The whole document: some problems say more, such as `segment`. */
    readonly document: Readonly<Record<string, unknown>> = {},
  ) {
    super(`${title} (${code}): ${detail}`);
  }

  /** Whether the same request may succeed soon. */
  get passing(): boolean {
    return [429, 502, 503, 504].includes(this.status);
  }
}

/** A job ended without a transcript: `code` and message say why. */
export class JobFailed extends Error {
  override readonly name = "JobFailed";

  constructor(readonly job: components["schemas"]["JobView"]) {
    super(job.error === null ? `The job is ${job.status}.` : `${job.error.message} (${job.error.code})`);
  }

  get code(): string {
    return this.job.error?.code ?? this.job.status;
  }
}

/** The server stayed out of reach for longer than a stream waits. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** What a call of `api` comes to. */
export interface Answer<Data> {
  data?: Data;
  error?: unknown;
  response: Response;
}

/** The data of a call of `api`. Throws ApiError. */
export async function unwrap<Data>(call: Promise<Answer<Data>>): Promise<Data> {
  const { data, error, response } = await call;
  if (!response.ok) throw errorOf(response, error);
  // what has no body, such as 204, is typed as undefined
  return data as Data;
}

function errorOf(response: Response, body: unknown): ApiError {
  const { status } = response;
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const retryAfter = Number.isNaN(wait) ? undefined : wait;
  if (isProblem(body)) return new ApiError(status, body.code, body.title, body.detail, retryAfter, { ...body });
  // a proxy, say
  return new ApiError(status, "unknown", `Status ${status}`, "The answer is no problem document.", retryAfter);
}

function isProblem(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && "code" in body && "title" in body && "detail" in body;
}
