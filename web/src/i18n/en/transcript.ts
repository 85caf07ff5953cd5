export const transcript = { title: "Transcript" } as const;
