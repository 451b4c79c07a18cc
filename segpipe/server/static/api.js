// The service over HTTP: one place for the token, for errors in one line, and for uploads that tell how far they are.

const KEPT = "segpipe-token"; // for this tab alone, until it is closed

export class ServiceError extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEPT),
  set: (word) => sessionStorage.setItem(KEPT, word),
  drop: () => sessionStorage.removeItem(KEPT),
  /** Take it out of the address (/?token=...), where others could read it. */
  fromAddress() {
    const address = new URL(location.href), word = address.searchParams.get("token");
    if (word === null) return;
    this.set(word);
    address.searchParams.delete("token");
    history.replaceState(null, "", address);
  },
};

function headers() {
  const word = token.get();
  return word ? { Authorization: `Bearer ${word}` } : {};
}

async function line(status, text) {
  try {
    const said = JSON.parse(text).error;
    if (said) return new ServiceError(status, said);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return new ServiceError(status, `the server answered ${status}; try again, and ask whoever runs it if it stays so`);
}

async function ask(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, { ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    throw new ServiceError(0, `the server does not answer (${error.message}); see whether it runs, then try again`);
  }
  if (!answer.ok) throw await line(answer.status, await answer.text());
  return answer;
}

export const api = {
  json: async (url) => (await ask(url)).json(),
  text: async (url) => (await ask(url)).text(),
  bytes: async (url) => (await ask(url)).arrayBuffer(),
  blob: async (url) => (await ask(url)).blob(),
  models: async () => (await api.json("/v1/models")).models,
  jobs: async () => (await api.json("/v1/jobs")).jobs,
  job: (id) => api.json(jobUrl(id)),
  cancel: (id) => ask(`${jobUrl(id)}?keep=true`, { method: "DELETE" }), // one that has just ended stays
  remove: (id) => ask(jobUrl(id), { method: "DELETE" }),
  correction: (id) => api.bytes(`${jobUrl(id)}/correction`),
  saveCorrection: (id, bytes) => ask(`${jobUrl(id)}/correction`, { method: "PUT", body: bytes, headers: { "Content-Type": "application/gzip" } }),
};

const jobUrl = (id) => `/v1/jobs/${encodeURIComponent(id)}`;

/** Send a job; `told(share)` while it goes. Returns {done: a promise of the job, stop()}. */
export function submit(fields, told) {
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value, ...(value instanceof File ? [value.name] : []));
  const request = new XMLHttpRequest(); // fetch does not tell how much has been sent
  const done = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => { if (event.lengthComputable) told(event.loaded / event.total); };
    request.onload = async () => (request.status < 300 ? resolve(JSON.parse(request.responseText)) : reject(await line(request.status, request.responseText)));
    request.onerror = () => reject(new ServiceError(0, "the connection broke off while sending; send the scan again"));
    request.onabort = () => reject(new ServiceError(0, "stopped; nothing was sent to the end"));
  });
  request.open("POST", "/v1/jobs");
  for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
  request.send(form);
  return { done, stop: () => request.abort() };
}

/** Endings that a file made of a scan does not repeat. */
export const SCAN_ENDING = /(\.(nii|nrrd|nhdr|mha|mhd|zip|png|tiff?|jpe?g|bmp))?(\.gz)?$/i;

/** Save a file under a name. */
export function keep(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
