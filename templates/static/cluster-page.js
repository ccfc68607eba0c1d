// The page of the cluster alone.
import { live } from "./live.js";
import { showCluster } from "./cluster.js";

live({ cluster: showCluster });
