/** What the page says, in the reader's language: `t("home.title")`. Reading it in a component follows the language. */
import i18next, { type TFunction } from "i18next";
import { en, type Messages } from "./en/index.js";
import { keep, kept } from "../kept.js";

declare module "i18next" {
  interface CustomTypeOptions {
    resources: { translation: typeof en };
  }
}

/** Each in its own words, with where its messages are. */
export const LANGUAGES = {
  en: { name: "English", load: async (): Promise<Messages> => Promise.resolve(en) },
  zh: { name: "中文", load: async (): Promise<Messages> => (await import("./zh/index.js")).zh },
} as const;
export type Language = keyof typeof LANGUAGES;

const KEPT = "longhand.language";
let current = $state<Language>("en");

/** The language of the page. */
export const language = (): Language => current;

/** The same for `Intl`, as it is written where the reader is. */
export const locale = (): string => navigator.languages.find((tag) => tag.split("-")[0] === current) ?? current;

/** A message by its name; `{{names}}` in it are filled from the second argument. */
export const t = ((...args: Parameters<TFunction>) => {
  void current;
  return (i18next.t as unknown as (...args: unknown[]) => unknown)(...args);
}) as TFunction;

export async function startLanguage(): Promise<void> {
  // scopes have colons in their names
  await i18next.init({ fallbackLng: false, nsSeparator: false, interpolation: { escapeValue: false } });
  await setLanguage(preferred());
}

export async function setLanguage(chosen: Language): Promise<void> {
  i18next.addResourceBundle(chosen, "translation", await LANGUAGES[chosen].load());
  await i18next.changeLanguage(chosen);
  current = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-Hans" : chosen;
}

/** Have the page come up in this language from now on. */
export async function chooseLanguage(chosen: Language): Promise<void> {
  keep(KEPT, chosen);
  await setLanguage(chosen);
}

function preferred(): Language {
  const wanted = [kept(KEPT) ?? "", ...navigator.languages].map((tag) => tag.split("-")[0] ?? "");
  return wanted.find((tag): tag is Language => tag in LANGUAGES) ?? "en";
}
