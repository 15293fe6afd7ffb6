// Examples: {shots: [{path, url, text, tokens}], sets: [names]}. Edited here; "Use these" sends them all.
const [list, files, sets, name] = ["ol", "input[type=file]", "select", ".name"].map((name) => element.querySelector(name));
let shots = [];

function say(what) { props.value = what; trigger("submit"); }
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

function take() {
  if (!props.value?.shots) return;
  shots = props.value.shots.map((shot) => ({ ...shot }));
  sets.replaceChildren(...["Saved sets", ...props.value.sets].map((title, index) =>
    Object.assign(document.createElement("option"), { textContent: title, value: index ? title : "" })));
  draw();
}

files.addEventListener("change", async () => {
  const given = [...files.files];
  files.value = "";
  for (const file of given) {
    const { path } = await upload(file);
    shots.push({ path, url: URL.createObjectURL(file), text: "" });
  }
  draw();
});
element.querySelector(".add").addEventListener("click", () => files.click());
element.querySelector(".apply").addEventListener("click", () => say({ do: "use", shots: plain() }));
element.querySelector(".save").addEventListener("click", () => say({ do: "save", name: name.value, shots: plain() }));
sets.addEventListener("change", () => { if (sets.value) say({ do: "set", name: sets.value }); });
watch("value", take);
take();
