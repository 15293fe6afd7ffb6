// Examples: {shots: [{path, url, text, tokens}], sets: [names], pool, number}. Edited here; "Use these" sends them all.
const [list, files, sets, name, pool, number, whole, note] = ["ol", ".pictures", ".sets", ".name", ".pool", ".number", ".whole", ".note"].map((name) => element.querySelector(name));
const MOST_POOLED = 256;
let shots = [];
let taken; // what was given last: the same again does not undo what is being written

function say(what) { taken = undefined; note.textContent = ""; props.value = what; trigger("submit"); }
function plain() { return shots.map(({ path, text }) => ({ path, text })); }

function small(label, title, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: label, title });
  made.setAttribute("aria-label", title);
  made.addEventListener("click", act);
  return made;
}

function move(from, to) {
  if (to < 0 || to >= shots.length) return;
  shots.splice(to, 0, ...shots.splice(from, 1));
  draw();
}

function draw() {
  list.replaceChildren(...shots.map((shot, index) => {
    const row = document.createElement("li");
    const words = Object.assign(document.createElement("input"), { value: shot.text, placeholder: "What the model should say" });
    words.setAttribute("aria-label", `Words of example ${index + 1}`);
    words.addEventListener("input", () => { shot.text = words.value; });
    const cost = Object.assign(document.createElement("span"), { className: "cost", textContent: shot.tokens ? `${shot.tokens} tokens` : "" });
    row.append(
      Object.assign(document.createElement("img"), { src: shot.url, alt: shot.text || "example" }), words, cost,
      small("↑", "Move up", () => move(index, index - 1)),
      small("↓", "Move down", () => move(index, index + 1)),
      small("×", "Remove example", () => { shots.splice(index, 1); draw(); }),
    );
    return row;
  }));
}

function offer(select, none, titles) {
  select.replaceChildren(...[none, ...titles].map((title, index) =>
    Object.assign(document.createElement("option"), { textContent: title, value: index ? title : "" })));
}

function take() {
  const given = JSON.stringify(props.value);
  if (!props.value?.shots || props.value.do || given === taken) return;
  taken = given;
  shots = props.value.shots.map((shot) => ({ ...shot }));
  offer(sets, "Saved sets", props.value.sets);
  offer(pool, "no set", props.value.sets);
  pool.value = props.value.pool;
  number.value = props.value.number;
  draw();
}

async function send(file) {
  try {
    return (await upload(file)).path;
  } catch (error) {
    throw new Error(`${file.name} could not be sent: ${error.message ?? error}`);
  }
}

// The pictures of a folder with their words: as its .jsonl lists have them, or else as folders or files are named.
async function described(given) {
  const lists = given.filter((file) => /\.jsonl$/i.test(file.name)), words = new Map();
  for (const file of lists) {
    const folder = file.webkitRelativePath.slice(0, -file.name.length);
    for (const row of (await file.text()).split("\n").filter((row) => row.trim())) {
      let said;
      try { said = JSON.parse(row); } catch { said = {}; }
      if (!said?.text || !(said.image ?? said.file_name)) throw new Error(`expected {"image": "path", "text": "words"}; got ${row.slice(0, 60)} in ${file.name}; correct it`);
      words.set(folder + (said.image ?? said.file_name).replace(/^\.\//, ""), said.text);
    }
  }
  const named = (file) => {
    const places = file.webkitRelativePath.split("/");
    return (places.length > 2 ? places.at(-2) : file.name.replace(/\.[^.]*$/, "")).replace(/[-_]+/g, " ").trim();
  };
  return given.filter((file) => file.type.startsWith("image/"))
    .map((file) => ({ file, text: lists.length ? words.get(file.webkitRelativePath) : named(file) }))
    .filter(({ text }) => text);
}

async function addFolder(given) {
  const found = await described(given), folder = given[0].webkitRelativePath.split("/")[0];
  if (!found.length) throw new Error(`expected a folder of pictures with words; got ${folder}, which has none; choose another`);
  if (found.length > MOST_POOLED) throw new Error(`expected at most ${MOST_POOLED} pictures; got ${found.length}; choose a smaller folder`);
  const sent = [];
  for (const { file, text } of found) {
    note.textContent = `${sent.length} of ${found.length} pictures are sent`;
    sent.push({ path: await send(file), text });
  }
  say({ do: "folder", name: folder, number: Number(number.value) || 1, shots: sent });
}

function chosen(input, act) {
  input.addEventListener("change", async () => {
    const given = [...input.files];
    input.value = "";
    if (!given.length) return;
    note.textContent = "";
    try { await act(given); } catch (error) { note.textContent = error.message; }
  });
}

async function addExamples(given) {
  const sent = [];
  for (const file of given) sent.push({ path: await send(file), url: URL.createObjectURL(file), text: "" });
  shots.push(...sent); // all at once: drawing takes the cursor from whoever writes
  draw();
}

chosen(files, addExamples);
chosen(whole, addFolder);
for (const part of [pool, number]) part.addEventListener("change", () => {
  if (part === pool || pool.value) say({ do: "similar", name: pool.value, number: Number(number.value) || 1 });
});
element.querySelector(".folder").addEventListener("click", () => whole.click());
element.querySelector(".add").addEventListener("click", () => files.click());
element.querySelector(".apply").addEventListener("click", () => say({ do: "use", shots: plain() }));
element.querySelector(".save").addEventListener("click", () => say({ do: "save", name: name.value, shots: plain() }));
sets.addEventListener("change", () => { if (sets.value) say({ do: "set", name: sets.value }); });
watch("value", take);
take();
