export const home = { empty: "Nothing here yet" } as const;
