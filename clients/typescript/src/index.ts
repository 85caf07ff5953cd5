export * from "./client.js";
export { ApiError, JobFailed, type Problem, Unreachable, unwrap } from "./errors.js";
export type { JobEvent } from "./events.js";
export type { components, operations, paths } from "./schema.js";
