// What has left the window: {has, on, forgotten, turns: [{turn, words, share}]}; share is what the looked-at answer took of it.
const [hint, bar, on, forget, list] = [".hint", ".bar", ".on", ".forget", "ol"].map((name) => element.querySelector(name));

function say(what) { props.value = what; trigger("submit"); }

let taken; // what stands there: the same again changes nothing, above all not what was just clicked
function take() {
  const { has = false, on: reads = true, forgotten = 0, turns = [] } = props.value ?? {};
  const given = JSON.stringify(props.value);
  if (props.value?.do || given === taken) return;
  taken = given;
  bar.hidden = !has;
  on.checked = reads;
  hint.textContent = !has ? "This model has no memory: what leaves the window is gone."
    : turns.length ? "Turns that have left the window, as the memory tells them:"
    : "Nothing is remembered yet: turns come here when they leave the window.";
  if (forgotten) hint.textContent += ` The first ${forgotten} turns are forgotten.`;
  list.replaceChildren(...turns.map(({ turn, words, share }) => {
    const row = Object.assign(document.createElement("li"), { value: turn });
    row.append(Object.assign(document.createElement("span"), { textContent: words || "…" }));
    if (share !== null) {
      const meter = Object.assign(document.createElement("meter"), { min: 0, max: 1, value: share });
      meter.setAttribute("aria-label", `How much the answer took of turn ${turn}`);
      row.append(meter);
    }
    return row;
  }));
}
on.addEventListener("change", () => say({ do: "read", on: on.checked }));
forget.addEventListener("click", () => say({ do: "forget" }));
watch("value", take);
take();
