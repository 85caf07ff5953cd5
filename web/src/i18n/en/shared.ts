export const shared = {
  until: "shared until {{date}}",
  playFrom: "Play from {{time}}",
} as const;
