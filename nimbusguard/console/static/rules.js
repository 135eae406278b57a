// What each rule that changes a recommendation means to somebody who does not know its name.

export const RULES = {
  BAD_DATA: "the metrics may not be believed, so nothing is removed",
  BOUNDS: "brought back to the bounds",
  BURST: "demand is a multiple of what is ready, so more was added",
  HPA_OBJECTS: "the guard's HPA rule wants the replicas, so fewer or none were removed",
  INDIFFERENT: "the network values every action alike, so the HPA rule answered",
  OUT_OF_DISTRIBUTION: "unlike anything the network learnt from, so the HPA rule answered",
  PAUSED: "the policy is paused",
  RESERVE: "kept or added for what a load as rough as this one may want next",
  SCALED_TO_ZERO: "somebody scaled the workload to zero",
  STABILIZATION: "the guard's HPA rule wanted the replicas of late, so fewer or none were removed",
  UNLEARNT: "the cost of a request is not known yet, so as many as the HPA wishes",
};

/** Who decides, to somebody who does not know the names. */
export const SOURCES = {
  kserve: "the served network",
  local_model: "the operator's own copy of the network, as KServe did not answer or is not believed",
  hpa_rule: "the HPA's rule, as no network could be asked or believed",
  hold: "nobody: what the rules need is not known, so nothing changes",
};

/** Names of rules with what they mean. */
export const explained = (names) => names.map((name) => (name in RULES ? `${name} (${RULES[name]})` : name)).join("; ");
