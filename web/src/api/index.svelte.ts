/** The API, typed, with the key of who signed in. */
import { Client } from "longhand-client";
import { keep, kept } from "../kept.js";

export * from "longhand-client";

const KEPT = "longhand.key";
const forThisTab = (): Storage => sessionStorage;

let key = $state(kept(KEPT, forThisTab) ?? kept(KEPT));
let asked = $state(false);

/** Who uses the page. The key never is in a URL. */
export const session = {
  get signedIn(): boolean {
    return key !== null;
  },
  /** Whether the server has refused a request for want of a valid key. */
  get asked(): boolean {
    return asked;
  },
  /** Use this key from now on; `remember` keeps it when the browser is closed. */
  signIn(entered: string, remember: boolean): void {
    this.signOut();
    key = entered.trim();
    keep(KEPT, key, remember ? undefined : forThisTab);
    asked = false;
  },
  signOut(): void {
    keep(KEPT, null);
    keep(KEPT, null, forThisTab);
    key = null;
    asked = true;
  },
};

/** For what takes more than one request, such as following events. */
export const client = new Client({
  baseUrl: location.origin,
  key: () => key ?? "",
  fetch: async (request) => {
    const response = await fetch(request);
    if (response.status === 401) asked = true;
    return response;
  },
});

/** Every operation: `await unwrap(api.GET("/v1/jobs", {…}))`, which throws ApiError. */
export const { api } = client;
