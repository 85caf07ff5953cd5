import { createRouter } from "sv-router";
import Home from "./home/Home.svelte";

// The server answers these paths with the page: api/routes/page.py names them too.
export const { p, navigate, isActive, route } = createRouter({
  "/": Home,
  "/jobs/:id": () => import("./transcript/Transcript.svelte"),
  "/search": () => import("./search/Search.svelte"),
  "/voices": () => import("./voices/Voices.svelte"),
  "/vocabulary": () => import("./vocabulary/Vocabulary.svelte"),
  "/training": () => import("./training/Training.svelte"),
  "/usage": () => import("./usage/Usage.svelte"),
  "/keys": () => import("./keys/Keys.svelte"),
  "/queues": () => import("./queues/Queues.svelte"),
  "*": () => import("./shell/NotFound.svelte"),
});
