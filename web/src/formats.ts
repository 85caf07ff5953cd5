/** Numbers, times and sizes as the reader's language writes them. */
import { locale, t } from "./i18n/index.svelte.js";

/** 1:02:03, or 2:03. */
export function clock(seconds: number): string {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, place) => (place === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}

export function number(value: number, options: Intl.NumberFormatOptions = {}): string {
  return new Intl.NumberFormat(locale(), options).format(value);
}

export function percent(share: number, digits = 0): string {
  return number(share, { style: "percent", maximumFractionDigits: digits });
}

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

export function bytes(count: number): string {
  const power = count < 1 ? 0 : Math.min(Math.floor(Math.log10(count) / 3), UNITS.length - 1);
  const unit = UNITS[power] ?? "byte";
  const digits = power > 1 ? 1 : 0;
  return number(count / 1000 ** power, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: digits });
}

export function hours(seconds: number): string {
  const [unit, value] = seconds < 3600 ? (["minute", seconds / 60] as const) : (["hour", seconds / 3600] as const);
  return number(value, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 1 });
}

/** The time of a moment of today, else its date. */
export function moment(iso: string): string {
  const at = new Date(iso);
  const today = at.toDateString() === new Date().toDateString();
  const options: Intl.DateTimeFormatOptions = today
    ? { hour: "numeric", minute: "2-digit" }
    : { day: "numeric", month: "short", ...(at.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" }) };
  return new Intl.DateTimeFormat(locale(), options).format(at);
}

export function fullDate(iso: string): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

export function date(iso: string): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium" }).format(new Date(iso));
}

/** A day without a time, such as 2026-03-01. */
export function day(iso: string): string {
  return new Intl.DateTimeFormat(locale(), { day: "numeric", month: "short", timeZone: "UTC" }).format(new Date(iso));
}

/** How much longer something takes, roughly. */
export function timeLeft(seconds: number): string {
  if (seconds < 50) return t("common.left.seconds", { count: Math.max(5, Math.round(seconds / 5) * 5) });
  if (seconds < 3300) return t("common.left.minutes", { count: Math.max(1, Math.round(seconds / 60)) });
  return t("common.left.hours", { count: Math.round(seconds / 3600) });
}

/** How long something took or has taken so far: 12 s, 3.5 min, 2 h. */
export function span(seconds: number): string {
  if (seconds >= 60) return hours(seconds);
  return number(seconds, { style: "unit", unit: "second", unitDisplay: "short", maximumFractionDigits: 0 });
}

/** A language by its code, in the reader's. */
export function languageName(code: string): string {
  try {
    return new Intl.DisplayNames(locale(), { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}
