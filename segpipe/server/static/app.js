// The page begins here: token, models, and what to ask the server again while something goes on.

import { api, token } from "./api.js";
import { at, lineOf, say } from "./dom.js";
import { ended, GONE, Jobs } from "./jobs.js";
import { NewScan } from "./models.js";
import { Result } from "./result.js";

const SOON_MS = 600, LATER_MS = 5000;

const fresh = new NewScan((job) => choose(job.id));
const result = new Result(() => fresh.models);
const jobs = new Jobs({ chosen: choose, removed: (id, gone) => { if (gone && result.job?.id === id) choose(""); } });
let timer = 0;

function choose(id) {
  if (location.hash.slice(1) === id) follow();
  else location.hash = id;
}

// A correction that is not saved is left only by someone who says so, whatever changed the address.
function askToLeave() {
  if (!result.pen.unsaved || result.job.id === location.hash.slice(1) || confirm("The correction is not saved. Leave it?")) return;
  history.replaceState(null, "", `#${result.job.id}`);
}

async function follow() {
  clearTimeout(timer);
  let busy = false;
  askToLeave();
  const id = location.hash.slice(1);
  try {
    busy = await jobs.refresh();
    if (location.hash.slice(1) !== id) return; // whoever changed it has been asked, and is followed
    jobs.mark(id);
    if (id) {
      if (result.job?.id !== id || !ended(result.job)) await open(id);
    } else result.close();
  } catch (error) {
    if (error.status === 401) { askForToken(lineOf(error)); return; }
    at("welcome").hidden = true;
    at("job").hidden = false;
    say(at("job-error"), error.status ? lineOf(error) : GONE);
  }
  timer = setTimeout(follow, busy && !document.hidden ? SOON_MS : LATER_MS);
}

async function open(id) {
  try {
    const job = await api.job(id);
    if (location.hash.slice(1) === id) await result.show(job); // else another was chosen meanwhile
  } catch (error) {
    if (location.hash.slice(1) !== id) return;
    if (error.status !== 404) throw error;
    result.close();
    say(at("jobs-error"), lineOf(error));
    history.replaceState(null, "", location.pathname);
  }
}

function askForToken(line = "") {
  at("columns").hidden = true;
  at("token-form").hidden = false;
  say(at("token-error"), token.get() ? line : "");
  at("token").value = "";
  at("token").focus();
}

async function begin() {
  try {
    await fresh.load();
  } catch (error) {
    if (error.status === 401) { askForToken(lineOf(error)); return; }
    say(at("new-error"), lineOf(error));
  }
  at("token-form").hidden = true;
  at("columns").hidden = false;
  document.documentElement.dataset.ready = "yes";
  await follow();
}

at("token-form").addEventListener("submit", (event) => { event.preventDefault(); token.set(at("token").value.trim()); begin(); });
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); at("result").focus(); }); // the address is the job's
at("keys-open").addEventListener("click", () => at("keys").showModal());
for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
window.addEventListener("hashchange", follow);
document.addEventListener("visibilitychange", () => { if (!document.hidden && !at("columns").hidden) follow(); });
token.fromAddress();
begin();
