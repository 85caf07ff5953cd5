/** What went wrong, in the reader's words. */
import i18next from "i18next";
import { ApiError } from "longhand-client";
import { language, t } from "../i18n/index.svelte.js";

/** A sentence for a code of docs/api.md; what the server says itself where the page has no words for it. */
export function explainCode(code: string, said: string): string {
  void language();
  const name = `errors.${code}`;
  return i18next.exists(name) ? i18next.t(name as "errors.network") : said;
}

export function explain(error: unknown): string {
  if (error instanceof ApiError) return explainCode(error.code, error.detail);
  // fetch throws a TypeError where nobody answers
  return t("errors.network");
}

/** What the request did not find: it is gone, and that may be what was wanted. */
export function isGone(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404;
}
