/** Short messages at the edge of the page. They are read out, and wait while somebody points at them. */

export interface Toast {
  readonly id: number;
  readonly text: string;
  readonly tone: "plain" | "danger";
  readonly action: { readonly label: string; readonly run: () => void } | null;
}

const SECONDS = 6;

export const toasts = $state<{ shown: Toast[]; held: boolean }>({ shown: [], held: false });

let last = 0;

/** Say something for six seconds. `ended` is called once it is gone, unless its action was chosen. */
export function toast(
  text: string,
  { tone = "plain", action = null, ended }: Partial<Pick<Toast, "tone" | "action">> & { ended?: () => void } = {},
): void {
  const id = ++last;
  const dismiss = (): void => {
    toasts.shown = toasts.shown.filter((each) => each.id !== id);
    clearInterval(timer);
    // what is gone tells nobody that it is no longer pointed at
    toasts.held = false;
  };
  const chosen = action && {
    label: action.label,
    run: () => {
      dismiss();
      action.run();
    },
  };
  toasts.shown = [...toasts.shown, { id, text, tone, action: chosen }];
  let left = SECONDS * 10;
  const timer = setInterval(() => {
    if (toasts.held) return;
    left -= 1;
    if (left > 0) return;
    dismiss();
    ended?.();
  }, 100);
}
