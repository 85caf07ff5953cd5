export const search = {
  title: "Search",
  about: "Words in all transcripts, also in drafts.",
  placeholder: 'budget "a phrase" begin* -without',
  speaker: "Speaker",
  from: "From",
  to: "To",
  start: "What was said, and when?",
  startAbout: "Type words. A result opens the recording and plays it from there.",
  nothing: "Nothing found",
  nothingAbout: "No passage has all of these words. Try fewer, or the beginning of one with a * behind it.",
  draft: "Draft",
  similar: "Similar",
} as const;
