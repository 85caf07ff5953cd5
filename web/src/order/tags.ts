/** Tags as they are typed: with commas between them, Chinese ones too. */
export const tagsOf = (typed: string): string[] =>
  typed
    .split(/[,，]/u)
    .map((tag) => tag.trim())
    .filter((tag) => tag !== "");
