/* SPDX-License-Identifier: Apache-2.0 */
#include "image/plan.h"

#include <stdlib.h>

#include "image/platform.h"

void plan_fini(struct plan *plan)
{
    for (size_t i = 0; i < plan->n_layers; i++) {
        free(plan->layers[i].entry);
    }
    free(plan->layers);
    config_fini(&plan->config);
    *plan = (struct plan){0};
}

int plan_check(const struct plan *plan, struct sm_error *err)
{
    int rc = platform_check(&plan->config, err);
    if (rc) {
        return rc;
    }
    if (plan->n_layers != plan->config.n_diff_ids) {
        return err_set(err, SM_ECORRUPT,
                       "the manifest lists %zu layers but config %s lists %zu diff_ids",
                       plan->n_layers, plan->config_digest, plan->config.n_diff_ids);
    }
    if (plan->n_layers == 0) {
        return err_set(err, SM_EUNSUPPORTED, "the image has no layers: there is nothing to run");
    }
    return SM_OK;
}
