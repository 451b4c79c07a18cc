// Which model, which files: the form that makes a job.

import { api, submit } from "./api.js";
import { at, lineOf, make, say } from "./dom.js";

const CARD_TAGS = new Set("H1 H2 H3 P UL LI TABLE THEAD TBODY TR TH TD STRONG EM CODE SPAN DIV BR PRE FOOTER".split(" "));

export class NewScan {
  /** opened(job) is called when the server has taken one. */
  constructor(opened) {
    this.opened = opened;
    this.models = [];
    this.files = [];
    this.channels = new Map(); // of files, where the user has chosen one
    at("model").addEventListener("change", () => this.show());
    at("files").addEventListener("change", (event) => { this.take([...event.target.files]); event.target.value = ""; });
    at("new").addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    at("card-open").addEventListener("click", () => this.openCard());
    this.listenForDrops();
  }

  async load() {
    this.models = await api.models();
    at("model").replaceChildren(...this.models.map((model) => make("option", { value: model.id }, `${model.name} ${model.version}`)));
    this.show();
  }

  get model() { return this.models.find((model) => model.id === at("model").value); }

  show() {
    const model = this.model;
    if (!model) { say(at("new-error"), "this server has no model; start it with one: segpipe serve model.ts"); return; }
    const names = model.labels.filter((label) => label.name !== "background").map((label) => label.name);
    say(at("model-text"), [model.description, `Finds ${names.join(", ")}.`].filter(Boolean).join(" "));
    at("card-open").hidden = !model.card;
    const several = model.channels.length > 1 && !model.pictures; // a picture has its colours in one file
    say(at("drop-text"), several ? `Drop ${model.channels.length} files here: ${model.channels.join(", ")}` : `Drop a ${model.pictures ? "picture" : "scan"} here`);
    say(at("drop-what"), model.pictures ? "PNG, TIFF or JPEG" : `NIfTI, NRRD, MetaImage, or ${several ? "one zip of the DICOM study" : "a zip of a DICOM series"}`);
    at("samples").hidden = !model.samples?.length;
    at("sample-list").replaceChildren(...(model.samples ?? []).map((sample) =>
      make("button", { type: "button", onclick: () => this.send(sample.name) }, sample.name)));
    this.list();
  }

  take(files) {
    const several = this.model?.channels.length > 1;
    this.files = several ? [...this.files, ...files].slice(-this.model.channels.length) : files;
    say(at("new-error"), !several && files.length > 1 ? `${files.length} files were chosen, one scan at a time: put a DICOM series into one zip` : "");
    this.list();
  }

  drop({ items, files }) {
    const folder = [...items].map((item) => item.webkitGetAsEntry?.()).find((entry) => entry?.isDirectory);
    if (folder) say(at("new-error"), `${folder.name} is a folder: put it into a zip, and drop that`);
    else this.take([...files]);
  }

  // Each file with its channel where the model has several, and a way to take it back.
  list() {
    const channels = this.model.channels;
    at("chosen").replaceChildren(...this.files.map((file, n) => make("li", { class: "row" },
      make("span", { class: "file" }, file.name, make("span", { class: "muted" }, ` ${size(file.size)}`)),
      ...(channels.length > 1 && this.files.length > 1 ? [this.channelBox(file, n)] : []),
      make("button", { type: "button", class: "quiet", "aria-label": `Leave out ${file.name}`, onclick: () => { this.files.splice(n, 1); this.list(); } }, "×"))));
    at("send").disabled = this.files.length === 0 || (this.files.length > 1 && channels.length === 1);
  }

  channelBox(file, n) {
    const names = this.model.channels, chosen = this.channels.get(file) ?? names[n];
    return make("select", { "aria-label": `Channel of ${file.name}`, onchange: (event) => this.channels.set(file, event.target.value) },
      ...names.map((name) => make("option", { value: name, selected: name === chosen }, name)));
  }

  fields(sample) {
    const fields = [["model", this.model.id], ["tta", String(at("tta").checked)]];
    if (sample) return [...fields, ["sample", sample]];
    const channels = [...at("chosen").querySelectorAll("select")].map((select) => select.value);
    if (channels.length && new Set(channels).size < channels.length) throw new Error("two files have the same channel; give each its own");
    return [...fields, ...(channels.length ? [["channels", JSON.stringify(channels)]] : []), ...this.files.map((file) => ["files", file])];
  }

  async send(sample = null) {
    say(at("new-error"), "");
    let sending;
    try {
      sending = submit(this.fields(sample), (share) => this.tell(share));
      at("upload").hidden = false;
      at("send").disabled = true;
      at("upload-stop").onclick = sending.stop;
      this.tell(0);
      const job = await sending.done;
      this.files = [];
      this.opened(job);
    } catch (error) {
      say(at("new-error"), lineOf(error));
    } finally {
      at("upload").hidden = true;
      this.list();
    }
  }

  tell(share) {
    at("upload-bar").value = share;
    say(at("upload-text"), share < 1 ? `Sending, ${10 * Math.floor(share * 10)} %` : "Sent; the server looks at it");
  }

  async openCard() {
    const model = this.model;
    at("card-body").replaceChildren(make("p", {}, "Reading ..."));
    at("card").showModal();
    try {
      const page = new DOMParser().parseFromString(await api.text(model.card), "text/html");
      at("card-body").replaceChildren(...copied(page.body));
    } catch (error) {
      at("card-body").replaceChildren(make("p", { class: "error" }, lineOf(error)));
    }
  }

  // Anywhere on the page: beside the box, a file would replace the page.
  listenForDrops() {
    const over = (yes) => at("drop").classList.toggle("over", yes);
    for (const name of ["dragenter", "dragover"]) window.addEventListener(name, (event) => { event.preventDefault(); over(true); });
    window.addEventListener("dragleave", () => over(false));
    window.addEventListener("drop", (event) => {
      event.preventDefault();
      over(false);
      if (!event.dataTransfer.files.length || at("columns").hidden) return; // text, or nobody has shown the token
      this.drop(event.dataTransfer);
      at("drop").scrollIntoView({ block: "nearest" });
    });
  }
}

// The card's text, tables and web links alone: nothing of it may run or load, whoever wrote it.
function copied(node) {
  return [...node.childNodes].flatMap((child) => {
    if (child.nodeType === Node.TEXT_NODE) return [document.createTextNode(child.data)];
    if (child.nodeType !== Node.ELEMENT_NODE || ["SCRIPT", "STYLE", "TEMPLATE"].includes(child.tagName)) return [];
    const inside = copied(child);
    if (child.tagName === "A" && /^https?:/.test(child.getAttribute("href") ?? "")) {
      return [make("a", { href: child.getAttribute("href"), rel: "noreferrer", target: "_blank" }, ...inside)];
    }
    if (!CARD_TAGS.has(child.tagName)) return inside;
    const kept = make(child.tagName.toLowerCase(), ["missing", "warning"].includes(child.className) ? { class: child.className } : {}, ...inside);
    return [kept];
  });
}

function size(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
