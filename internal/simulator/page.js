// The page is brought up to date in place, so that it does not jump, and not while something in it is open or selected.
(() => {
  "use strict";
  const update = async () => {
    try {
      if (!document.hidden && !document.querySelector("#received details[open]") && getSelection().isCollapsed) {
        const answer = await fetch(location.href, { cache: "no-store" });
        const next = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const id of ["services", "devices", "received"]) {
          const old = document.getElementById(id), now = next.getElementById(id);
          if (old && now && !old.isEqualNode(now)) old.replaceWith(now);
        }
      }
    } catch { /* the simulator is away: what is shown stays */ }
    setTimeout(update, 2000);
  };
  setTimeout(update, 2000);
})();
