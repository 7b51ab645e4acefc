// ---- all of it begins here

if (rows.some((cells) => cells.length > 0)) {
  comeAlive();
  offerText();
  offerSwitches();
}
