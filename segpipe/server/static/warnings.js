// What the server warns of, with what to do about it, for whoever has the label map in hand. The server's own words stay as they are: they
// stand in its tables and DICOM objects, too.

import { make } from "./dom.js";

const ALONG = { x: "from left to right", y: "from back to front", z: "from feet to head" };
const MISSING = /^no (?:dicom-seg|rtstruct|sr)\b/;
const KINDS = [
  [/^spacing along ([xyz]) is /, (axis) => `The voxels have another size ${ALONG[axis]} than those that the model knows: edges and small parts may be wrong.`],
  [/^field of view along ([xyz]) is /, (axis) => `The scan reaches much farther, or less far, ${ALONG[axis]} than those that the model knows. See whether it shows what they show.`],
  [/^(?:lowest|highest) values of .+ are about /, () => "The model does not know such greys: another sequence, contrast or unit. See whether this is the right series for this model."],
  [/ is constant$/, () => "This image is empty or damaged: it has the same grey everywhere. Do not use the label map; send the right scan."],
  [/ has \S+ ml, in training /, () => "The model knows no scan with so much or so little of it. See in all planes whether it was found where it is, and nowhere else."],
  [/ is \S+, in training \S+$/, () => "This is another kind of scan than the model knows. See whether the series and the model are the right ones."],
  [MISSING, () => "The label map is there; this file could not be made."],
];

/** What to do about one warning, in plain words; empty where only looking helps. */
export function advice(warning) {
  for (const [pattern, words] of KINDS) {
    const found = pattern.exec(warning);
    if (found) return words(found[1]);
  }
  return "";
}

/** The warnings of a job as elements: what to do first, then each with its own advice; none where there is nothing to be told. */
export function told(warnings) {
  if (!warnings.length) return [];
  const look = warnings.some((warning) => !MISSING.test(warning));
  const head = look
    ? [make("strong", {}, "Look at the label map before you use it."), " Compare it with the scan slice by slice; where it is wrong, correct it or do without it."]
    : [make("strong", {}, "Not every file could be made.")];
  const alike = new Map(); // what asks for the same stands together
  for (const warning of warnings) alike.set(advice(warning), [...(alike.get(advice(warning)) ?? []), warning]);
  const items = [...alike].map(([words, those]) => make("li", {}, ...those.flatMap((warning) => [make("strong", {}, `${warning}.`), " "]), words));
  return [make("p", {}, ...head), make("ul", {}, ...items)];
}
