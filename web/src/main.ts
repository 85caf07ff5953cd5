import { mount } from "svelte";
import "./styles/tokens.css";
import "./styles/base.css";
import App from "./App.svelte";
import { startLanguage } from "./i18n/index.svelte.js";

await startLanguage();
const target = document.getElementById("app");
if (target !== null) mount(App, { target });
