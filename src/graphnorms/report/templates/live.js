// Loads the page of a run that goes on again: every 30 s, while it is seen and nobody reads with the
// mouse or the keys. The browser keeps the place; a page of a file may not ask whether it changed.
{
  const AGE = 30000;
  let touched = 0;
  for (const kind of ["pointermove", "pointerdown", "keydown", "wheel", "touchstart"]) {
    addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  }
  const begun = Date.now();
  setInterval(() => {
    const now = Date.now();
    if (!document.hidden && now - begun >= AGE && now - touched >= AGE / 3) location.reload();
  }, 1000);
}
