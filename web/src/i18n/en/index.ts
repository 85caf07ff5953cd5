import { common } from "./common.js";
import { errors } from "./errors.js";
import { home } from "./home.js";
import { shell } from "./shell.js";
import { transcript } from "./transcript.js";

export const en = { common, errors, home, shell, transcript } as const;

type Said<M> = { readonly [Name in keyof M]: M[Name] extends string ? string : Said<M[Name]> };

/** What every language has to say. */
export type Messages = Said<typeof en>;
