// Which station needs somebody, and why: the worst first.

import { percent } from "./format.js";

const STREAK = 3; // NG one after the other
const SIGMAS = 3.5; // above the usual share of defects, were they independent
const LEAST = 4; // defects among the recent verdicts

// [{level, text}] of one station; level: 3 gone, 2 now, 1 today. `state` as Station.state() has it.
export function needs(station, state) {
  if (state === "offline") return [{ level: 3, text: "offline" }];
  if (state === "old") return [{ level: 3, text: "does not report" }];
  if (state === "stopped") return [{ level: 1, text: "stopped" }];
  return [...ofHealth(station), ...ofStreak(station), ...ofShare(station)];
}

function ofHealth({ health }) {
  const standing = (health?.roles ?? []).filter(({ state }) => state === "warn" || state === "alert");
  const unseen = standing.filter(({ acknowledged }) => acknowledged === null);
  if (!unseen.length && standing.length) return [];
  if (health?.state !== "degraded" && health?.state !== "alert") return [];
  const names = unseen.map(({ name }) => name).join(", ");
  return [{ level: health.state === "alert" ? 2 : 1, text: names ? `${health.state}: ${names}` : health.state }];
}

function ofStreak({ streak }) {
  return streak < STREAK ? [] : [{ level: 2, text: `${streak} NG in a row` }];
}

function ofShare(station) {
  const lately = station.defectShare();
  if (lately === null) return [];
  const { of, share, usual } = lately;
  const usually = Math.max(usual, 0.5 / of); // none at all in the past is no proof that there are none
  const spread = Math.sqrt((usually * (1 - usually)) / of);
  if (share * of < LEAST || share < usually + SIGMAS * spread) return [];
  return [{ level: 2, text: `${percent(share)} defective, usually ${percent(usual)}` }];
}
