/** The server and what the caller may do on it, as it said last. */
import { api, session, unwrap, type components } from "./index.svelte.js";

type Server = components["schemas"]["ServerView"];
type Scope = components["schemas"]["Scope"];

let told = $state<Server | null>(null);

export const server = (): Server | null => told;

export function may(scope: Scope): boolean {
  return told !== null && (told.scopes.includes(scope) || told.scopes.includes("admin"));
}

/** Ask the server. Throws ApiError: with 401 a key is needed, and `session` knows of it. */
export async function meetServer(): Promise<void> {
  told = await unwrap(api.GET("/v1/server"));
}

/** Check a key before it is kept. Throws ApiError. */
export async function signIn(key: string, remember: boolean): Promise<void> {
  const before = told?.tenant;
  session.signIn(key, remember);
  try {
    await meetServer();
  } catch (error) {
    session.signOut();
    throw error;
  }
  if (before !== undefined && before !== told?.tenant) startAnew();
}

export function signOut(): void {
  session.signOut();
  startAnew();
}

/** Without anything that the page has in memory: the uploads, lists and changes of who was signed in. */
function startAnew(): void {
  location.replace("/");
}
