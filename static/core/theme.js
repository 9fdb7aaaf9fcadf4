// Runs before the first paint: a theme set later would flash white at someone working at night.
(() => {
  try {
    const choice = localStorage.getItem("theme");
    if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
  } catch {
    // Storage may be forbidden; then the system's theme stands.
  }
})();
