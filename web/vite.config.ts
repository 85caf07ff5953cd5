import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

const API = process.env["LONGHAND_URL"] ?? "http://127.0.0.1:8000";

/** A file of the TypeScript client, which is taken as it is. */
const client = (file: string): string => fileURLToPath(new URL(`../clients/typescript/src/${file}`, import.meta.url));

export default defineConfig({
  plugins: [svelte()],
  resolve: {
    alias: [
      { find: /^longhand-client$/, replacement: client("index.ts") },
      { find: "longhand-client/resumable", replacement: client("resumable.ts") },
    ],
    // what the client imports is taken from here
    dedupe: ["openapi-fetch", "eventsource-parser", "tus-js-client"],
  },
  build: {
    outDir: "../api/page",
    emptyOutDir: true,
    // browsers of 2024 and later: what light-dark() needs
    target: ["chrome123", "firefox121", "safari17.5"],
    // a policy without data: for scripts and styles; and modules are what the server says is immutable
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
  },
  server: {
    fs: { allow: [".."] },
    proxy: Object.fromEntries(
      ["/v1", "/docs", "/redoc", "/openapi.json", "/static-offline-docs"].map((path) => [path, API]),
    ),
  },
});
