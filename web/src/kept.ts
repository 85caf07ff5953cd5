/** What the browser remembers of this page. Where it may not, nothing is kept and nothing breaks. */

export function kept(name: string, storage: () => Storage = () => localStorage): string | null {
  try {
    return storage().getItem(name);
  } catch {
    return null;
  }
}

/** `null` forgets. */
export function keep(name: string, value: string | null, storage: () => Storage = () => localStorage): void {
  try {
    if (value === null) storage().removeItem(name);
    else storage().setItem(name, value);
  } catch {
    // a browser that keeps nothing, or has no room left
  }
}
