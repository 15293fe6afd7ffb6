// A click hands the picture to the message box as a file, as if it had been dropped there.
element.addEventListener("click", async (event) => {
  const image = event.target.closest("button")?.querySelector("img");
  if (!image) return;
  const bytes = await (await fetch(image.src)).blob();
  const file = new File([bytes], `${image.alt}.png`, { type: "image/png" });
  document.querySelector("#composer .composer").dispatchEvent(new CustomEvent("picture", { detail: file, bubbles: true }));
});
