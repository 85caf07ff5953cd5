import { common } from "./common.js";
import { home } from "./home.js";
import { transcript } from "./transcript.js";

export const en = { common, home, transcript } as const;

type Said<M> = { readonly [Name in keyof M]: M[Name] extends string ? string : Said<M[Name]> };

/** What every language has to say. */
export type Messages = Said<typeof en>;
