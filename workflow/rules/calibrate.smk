# What a model's linears see on the calibration text.
rule calibrate:
    input:
        missing_parents("results/calibrate/{label}/{key}.safetensors"),
    output:
        update("results/calibrate/{label}/{key}.safetensors"),
    log:
        "logs/calibrate/{label}/{key}.log",
    conda:
        "../envs/bitlaw.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb,
        runtime=runtime,
    params:
        make=RUN.command,
    shell:
        "exec {params.make} {output} > {log} 2>&1"
