/** Light, dark, or as the system has it. */
import { keep, kept } from "../kept.js";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const KEPT = "longhand.theme";
let current = $state<Theme>(THEMES.find((theme) => theme === kept(KEPT)) ?? "system");

export const theme = (): Theme => current;

export function setTheme(chosen: Theme): void {
  current = chosen;
  keep(KEPT, chosen === "system" ? null : chosen);
  show();
}

function show(): void {
  document.documentElement.dataset["theme"] = current;
}

show();
