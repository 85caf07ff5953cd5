export const common = {
  pages: {
    home: "Recordings",
    voices: "Voices",
    training: "Models",
    usage: "Usage",
    keys: "Keys",
    notfound: "There is no such page",
  },
} as const;
